# Becomes a node: mounts of its own, then nothing but holding them.
# $1: the node's folder, $2: its name; then pairs of a folder below $1 and where it is laid.
set -eu
folder=$1
hostname "$2"
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-shared /run
while [ $# -gt 0 ]; do
	mount --bind "$folder/$1" "$2"
	mount --make-shared "$2"
	shift 2
done
mount -t bpf bpf /sys/fs/bpf
mount --make-shared /sys/fs/bpf
: >"$folder/ready"
exec sleep infinity
