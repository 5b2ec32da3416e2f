// Package columns makes the tables that kubectl get prints: for every served
// kind its columns, in the narrow and the wide form, and for an object its row.
//
// The columns are those of Kubernetes' own server-side printing, so scripts that
// read a column by its name or position find it. A column of priority 0 is always
// shown, one of priority 1 with -o wide only.
package columns
