# Run the rest of the command line as root of a copy of this machine whose files vanish with it:
# every write goes to a tmpfs, /run is empty, /sys is empty, and processes die with the first.
# usage: unshare --mount --pid --fork --kill-child sh jetson_namespace.sh SCRATCH FOLDERS... -- COMMAND...
set -e
scratch=$1
shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$scratch"
root=$scratch/root
mkdir "$scratch/upper" "$scratch/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
while [ "$1" != -- ]; do
    # A folder of another file system is not in the overlay.
    if [ "$(stat -c %d "$1")" != "$(stat -c %d /)" ]; then
        mkdir -p "$root$1"
        mount --bind "$1" "$root$1"
        mount -o remount,bind,ro "$root$1"
    fi
    shift
done
shift
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/sys"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
