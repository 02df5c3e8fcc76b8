#!/guest/busybox sh
# The first program of a guest (guest_files.py): mounts, modules, the guest's own root; then it becomes the agent.
# $1, from the kernel's command line: the port's device.
export PATH=/guest/applets
/guest/busybox mkdir /guest/applets
/guest/busybox --install -s /guest/applets
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/console 2>&1
while read -r module; do
    options=
    case $module in
        dummy) options=numdummies=0 ;;
        ifb) options=numifbs=0 ;;
    esac
    insmod "/modules/$module.ko" $options || echo "guest: the module $module can't be loaded"
done </modules/order
rm -r /modules
new=
if [ "$(cat /guest/root)" = host ]; then
    mkdir /host /layer /new
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /host || exit 1
    mount -t tmpfs -o size=75% tmpfs /layer
    mkdir /layer/upper /layer/work
    mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /new || exit 1
    new=/new
fi
for each in proc sys dev; do
    [ -z "$new" ] || mount --move /$each $new/$each
done
mount -t tmpfs -o mode=755 tmpfs $new/run
mkdir -p $new/dev/pts $new/dev/shm $new/run/lock $new/run/tmp $new/run/netns
mount -t devpts -o mode=620,ptmxmode=666 devpts $new/dev/pts
mount -t tmpfs -o mode=1777 tmpfs $new/dev/shm
mount -t tmpfs -o mode=1777 tmpfs $new/run/tmp
mount -t cgroup2 cgroup2 $new/sys/fs/cgroup
hostname guest
ip link set lo up
# what is only in the layer of memory: no name server, nobody but ourselves by name
echo "127.0.0.1 localhost guest" >$new/run/hosts
echo "options timeout:1 attempts:1" >$new/run/resolv.conf
if [ -n "$new" ]; then
    for file in hosts resolv.conf; do
        # a link may lead to the host's /run, which is not ours
        [ ! -L $new/etc/$file ] || rm $new/etc/$file
        cp $new/run/$file $new/etc/$file
    done
    cp -r /guest $new/run/guest
    exec switch_root $new /run/guest/loader --library-path /run/guest/lib /run/guest/micropython -X heapsize=32M \
        /run/guest/agent.py /dev/vport1p1
fi
for file in hosts resolv.conf; do cp /run/$file /etc/$file; done
# for what no package brings
busybox --install -s /usr/bin
exec /guest/loader --library-path /guest/lib /guest/micropython -X heapsize=32M /guest/agent.py /dev/vport1p1
