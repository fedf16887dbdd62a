module millrace.internal/cluster/pause

go 1.24.0
