# The boots of tests/linux/run.sh: each function boots one guest and checks many things on it.
# shellcheck shell=bash disable=SC2154,SC2317

# Two processors and five disks of all kinds; powers off.
boot_disks() {
  local disk before
  for disk in data ro direct; do make_disk "$work/$disk.img"; done
  head -c 8M /dev/urandom >"$work/discard.img"
  cp "$work/discard.img" "$work/discard.before"
  before=$(sha256sum <"$work/ro.img")
  boot disks '' "system pci disks interrupts messages bar:0000:00:02.0 ports files:data \
files:direct readonly:ro discard:discard poweroff" --cpus 2 \
    --disk "path=$work/data.img,serial=data,queues=2" \
    --disk "path=$work/ro.img,serial=ro,readonly" \
    --disk "path=$work/direct.img,serial=direct,direct" \
    --disk "path=$work/discard.img,serial=discard,queues=4,writeback=off"
  ends 'power off ends with status 0' 0
  tells '2 processors run' 'cpus 2'
  kernel_is_content '2 processors, 5 disks'
  check_pci
  check_disk_properties
  check_user_space_access
  tells 'a file system on a disk is read' 'read data: made by the host'
  check 'a file system on a disk is written' written_by_guest "$work/data.img"
  check 'what the guest wrote is sound' file_system_is_clean "$work/data.img"
  tells 'a disk with direct=on is read' 'read direct: made by the host'
  check 'a disk with direct=on is written' written_by_guest "$work/direct.img"
  check 'what the guest wrote with direct=on is sound' file_system_is_clean "$work/direct.img"
  tells 'a read-only disk cannot be mounted to write' 'readonly: mount to write: EACCES'
  tells 'a read-only disk cannot be written' 'readonly: write: EPERM'
  tells 'a read-only disk is read' 'read ro: made by the host'
  same 'a read-only disk stays as it was' "$(sha256sum <"$work/ro.img")" "$before"
  check_discard
}

check_pci() {
  same 'MSI-X is on in every virtio device' "$(grep -c '^pci .* 1af4:1042 .* msix=on ' "$out")" 5
  tells 'a vector for each queue and one for changes' \
    'pci 0000:00:05.0 1af4:1042 class=018000 msix=on vectors=[3-5]'
  tells 'the host bridge is at 00:00.0' 'pci 0000:00:00.0 1b36:0008 class=060000 .*'
  tells 'the serial port interrupts' 'interrupt +4: .*[1-9].* ttyS0'
  check_resources
}

# Whatever its level, a line of this kind is a fault of the machine's description.
check_resources() {
  local complaints="can't claim|no compatible bridge window|failed to assign|no space|conflict"
  complaints+='|not assigned|nobody cared|ACPI (BIOS )?(Error|Warning)'
  tells_not 'no resource complaint' "$complaints"
}

check_disk_properties() {
  tells "the disk's serial number" 'disk vda serial=root ro=1 sectors=[0-9]+ queues=1 .*'
  tells 'one queue for each processor' 'disk vdb serial=data ro=0 sectors=32768 queues=2 .*'
  tells 'a read-only disk says so' 'disk vdc serial=ro ro=1 sectors=32768 .*'
  tells 'a disk has a write-back cache' 'disk vdd serial=direct .* cache=write back'
  tells 'a disk with writeback=off has none' 'disk vde serial=discard .* cache=write through'
}

check_user_space_access() {
  local found
  found="bridge=0x00081b36 vendor=0x1af4 uart=0x20 date=($today|$(date -u +%y%m%d))"
  tells 'a program reads a BAR that it has mapped' \
    'bar num_queues=2 device_status=0xf capacity=32768'
  tells 'a program reads ports after ioperm' "ports by ioperm: $found"
  tells 'a program reads ports after iopl' "ports by iopl: $found"
  tells 'a program without the right to reads no port' 'ports by nothing: fault'
}

# The guest discarded the second quarter and wrote zeroes to the third.
check_discard() {
  local disk=$work/discard.img was=$work/discard.before
  tells 'DISCARD and WRITE_ZEROES are done' 'discarded discard'
  check 'the host file occupies less after DISCARD' \
    test "$(allocated_kib "$disk")" -le $(($(allocated_kib "$was") - 2048))
  check 'zeroes are where they were asked for' cmp -s -i 4M:0 -n 2M "$disk" /dev/zero
  check 'the rest is as it was' \
    eval 'cmp -s -n 2M "$disk" "$was" && cmp -s -i 6M "$disk" "$was"'
}

# One processor, memory beyond the hole below 4 GiB; resets by ACPI.
boot_memory() {
  make_disk "$work/memory.img"
  boot memory '' 'system pci messages interrupts disks files:data restart' --cpus 1 --memory 6G \
    --disk "path=$work/memory.img,serial=data"
  ends 'reset by ACPI ends with status 3' 3
  tells '1 processor runs' 'cpus 1'
  tells '6 GiB of memory are there' 'memory_mib (5[89]|60|61)[0-9][0-9]'
  same 'MSI-X is on with 6 GiB' "$(grep -c '^pci .* 1af4:1042 .* msix=on vectors=2$' "$out")" 2
  tells "the disk's serial number, with 1 processor" 'disk vdb serial=data ro=0 .*'
  tells 'a file system on a disk is read, with 1 processor' 'read data: made by the host'
  check 'a file system on a disk is written, with 1 processor' written_by_guest "$work/memory.img"
  check 'what the guest wrote with 1 processor is sound' file_system_is_clean "$work/memory.img"
  kernel_is_content '6 GiB'
  check_resources
}

# Without message-signalled interrupts; resets by the keyboard controller.
boot_intx() {
  make_disk "$work/intx.img"
  boot intx 'pci=nomsi reboot=k' 'pci messages files:data interrupts restart' --cpus 2 \
    --disk "path=$work/intx.img,serial=data"
  ends 'reset by the keyboard controller ends with status 3' 3
  tells 'without MSI, MSI-X is off' 'pci 0000:00:02.0 .* msix=off vectors=0'
  tells 'without MSI, interrupt lines are level-triggered' \
    'interrupt .*[1-9].* IO-APIC +[0-9]+-fasteoi +virtio.*'
  check 'without MSI, a file system is written' written_by_guest "$work/intx.img"
  check 'without MSI, what was written is sound' file_system_is_clean "$work/intx.img"
  kernel_is_content 'without MSI'
}

# Without the I/O APIC; panics.
boot_pic() {
  boot pic 'noapic panic=-1' 'system interrupts panic' --cpus 1
  same 'a panic ends with status 4' "$status" 4
  tells 'without the I/O APIC, the serial port interrupts' 'interrupt +4: .*[1-9].* XT-PIC .*ttyS0'
}

# Without ACPI: PCI found by its ports, no interrupt lines described. Init ends, so Linux panics.
boot_no_acpi() {
  make_initrd
  boot no_acpi 'acpi=off panic=-1 reboot=k' 'pci interrupts' --cpus 1 --initrd "$work/initrd.cpio"
  same 'without ACPI, a panic ends by a reset' "$status" 3
  tells 'without ACPI, the disk is found' 'pci 0000:00:01.0 1af4:1042 .*'
  tells 'without ACPI, the serial port interrupts' 'interrupt +4: .*[1-9].* ttyS0'
}

# From an initial RAM disk; SIGTERM presses the power button and the guest powers off.
boot_initrd() {
  local pid name=initrd disk=$work/initrd.img
  make_disk "$disk"
  make_initrd
  out=$work/$name.out status=0
  # Its own process: a signal to "timeout" would reach the guest as well, but twice.
  "$ringlet" run --kernel "$kernel" --initrd "$work/initrd.cpio" --grace 120s \
    --cmdline "$common_cmdline -- system keep:data button poweroff" \
    --disk "path=$disk,serial=data" </dev/null >"$out.raw" 2>"$work/$name.err" &
  pid=$!
  if wait_for_line "$out.raw" waiting "$pid"; then
    kill -TERM "$pid"
  else
    kill -KILL "$pid" 2>/dev/null || true
  fi
  wait "$pid" || status=$?
  tr -d '\r' <"$out.raw" >"$out"
  tells 'an initial RAM disk is booted' 'probe begins'
  tells 'SIGTERM presses the power button' 'button pressed'
  ends 'after SIGTERM and power off, it ends by SIGTERM' 143
  check 'SIGTERM loses no write' written_by_guest "$disk"
  check 'SIGTERM leaves a clean file system' file_system_is_clean "$disk"
}

# wait_for_line FILE WORD PID: until WORD is in FILE; fails when PID ends or the limit is reached.
wait_for_line() {
  local deadline=$((SECONDS + boot_limit_s))
  until grep -q "$2" "$1" 2>/dev/null; do
    kill -0 "$3" 2>/dev/null && ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

# As a compressed bzImage, which an emulated guest has to unpack first.
boot_bzimage() {
  kernel=$(dirname "$kernel")/bzImage
  boot bzimage '' 'system messages poweroff' --cpus 1
  ends 'a bzImage boots' 0
  tells 'a bzImage finds its memory' 'memory_mib 2[0-9][0-9]'
  kernel_is_content 'bzImage'
}

# A shell on a terminal.
boot_shell() {
  cp --sparse=always "$shell_root" "$work/shell.ext4"
  with_limit python3 "$here/console.py" "$ringlet" "$kernel" "$work/shell.ext4" \
    2>"$work/shell.err" || failed 'the console test ends by itself' "see $work/shell.err"
}

# The two commands that the README promises.
boot_quickstart() {
  local answer status=0
  answer=$(with_limit "$top/tools/quickstart" -- uname -a 2>"$work/quickstart.err") || status=$?
  same 'quickstart -- uname -a exits 0' "$status" 0
  check "quickstart -- uname -a prints the guest's answer and nothing else" \
    grep -qxE 'Linux [^ ]+ 6\.12\.[0-9]+ [^\r]* x86_64 GNU/Linux' <<<"$answer"
  same 'quickstart -- uname -a prints one line' "$(wc -l <<<"$answer")" 1
}
boot_quickstart_fails() {
  local answer status=0
  answer=$(with_limit "$top/tools/quickstart" -- false 2>"$work/quickstart_fails.err") || status=$?
  same 'quickstart -- false exits 1' "$status" 1
  same 'quickstart -- false prints nothing' "$answer" ''
}
