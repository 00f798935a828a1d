# Boots a real systemd in namespaces of its own, for tests. Called by systemd_box.py, in new mount, pid, cgroup, ipc and
# uts namespaces, with the folders of the sources and of the packages.
#
# The root of the box is an overlay whose upper layer is in memory. So nothing that runs in it, systemd-tmpfiles with
# its emptying of /tmp least of all, can change a file of this computer. What is bound into it is read-only.
set -eu
source=$1 packages=$2

mount --make-rprivate /
mount -t tmpfs -o mode=755 box /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 tmpfs dev
for each in null zero full random urandom tty; do
    touch dev/$each
    mount --bind /dev/$each dev/$each
done
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs opt
rm -rf var/log/journal
mkdir -p opt/streamrnn/source opt/streamrnn/packages
mount --bind "$source" opt/streamrnn/source
mount --bind "$packages" opt/streamrnn/packages
mount -o remount,bind,ro opt/streamrnn/source
mount -o remount,bind,ro opt/streamrnn/packages
# Of a boot nothing is wanted but the journal and the bus of systemd itself.
units=etc/systemd/system
for each in systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-clean systemd-sysctl systemd-random-seed \
    systemd-remount-fs systemd-sysusers systemd-udevd systemd-udev-trigger systemd-update-utmp; do
    ln -sf /dev/null $units/$each.service
done
printf '[Unit]\nAllowIsolate=yes\nWants=systemd-journald.service\n' >$units/box.target
mkdir -p $units/streamrnn.service.d
mkdir -p old
pivot_root . old
cd /
umount -l /old
exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-sys_boot,-syslog env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    container=box /lib/systemd/systemd --system --unit=box.target --show-status=no --log-target=journal
