// Package archtest holds the project to its own structure: which part may
// import which, what none may import, and that every package says what it is.
package archtest
