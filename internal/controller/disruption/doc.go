// Package disruption keeps the status of PodDisruptionBudgets: how many of the pods
// that a budget covers are healthy, and how many may be evicted now. The API server
// takes evictions off that number as it grants them and notes the pods; this
// controller counts them as gone until they are, or for two minutes:
// https://kubernetes.io/docs/tasks/run-application/configure-pdb/.
package disruption
