"""A Jetson board made of files: INA3221 rails, devfreq, thermal zones, nvpmodel, jetson_clocks.

Written from the kernel's documentation (hwmon/ina3221, sysfs-class-devfreq, driver-api/thermal) and
from what NVIDIA's manuals say that nvpmodel and jetson_clocks print.
"""

from pathlib import Path

RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
VOLTS_MV = 5000
GPU_MAX_HZ, GPU_MIN_HZ = 918_000_000, 306_000_000

NVPMODEL = """\
#!/bin/sh
state=/etc/nvpmodel.state
test -e $state || echo 0 > $state
case "$1" in
-p) echo "PM_CONFIG: DEFAULT=15W(0)"
    echo "POWER_MODEL: ID=0 NAME=15W"
    echo "POWER_MODEL: ID=1 NAME=7W" ;;
-q) read id < $state
    test "$id" = 0 && echo "NV Power Mode: 15W" || echo "NV Power Mode: 7W"
    echo $id ;;
-m) echo $2 > $state ;;
esac
"""

JETSON_CLOCKS = """\
#!/bin/sh
gpu=/sys/class/devfreq/17000000.gpu
case "$1" in
--show)
    echo "SOC family:tegra234  Machine:files"
    read min < $gpu/min_freq; read max < $gpu/max_freq; read cur < $gpu/cur_freq
    echo "GPU MinFreq=$min MaxFreq=$max CurrentFreq=$cur" ;;
--store) cat $gpu/min_freq > "$2" ;;
--restore) cat "$2" > $gpu/min_freq ;;
*) cat $gpu/max_freq > $gpu/min_freq; cat $gpu/max_freq > $gpu/cur_freq ;;
esac
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


class Board:
    """The tree under ``root``, which is ``/sys`` inside the namespace."""

    def __init__(self, root=Path("/sys")):
        self.root = root
        self._chip = root / "bus/i2c/devices/1-0040/hwmon/hwmon0"
        self._gpu = root / "devices/platform/17000000.gpu"
        self._devfreq = root / "class/devfreq/17000000.gpu"
        self._zones = root / "devices/virtual/thermal"

    def build(self):
        """Lay out the tree at rest: 5 W, 40 °C, an idle GPU."""
        write(self.root / "bus/i2c/devices/1-0040/name", "ina3221")
        write(self._chip / "name", "ina3221")
        for number, rail in enumerate(RAILS, 1):
            write(self._chip / f"in{number}_label", rail)
            write(self._chip / f"in{number}_input", VOLTS_MV)
            write(self._chip / f"curr{number}_max", 32760)
            write(self._chip / f"curr{number}_crit", 32760)
            self.rail(number, 0.5)
        for name, text in (("load", 0), ("railgate_enable", 0), ("tpc_pg_mask", 0),
                           ("enable_3d_scaling", 1), ("of_node/name", "gpu")):  # fmt: skip
            write(self._gpu / name, text)
        self._devfreq.mkdir(parents=True)
        (self._devfreq / "device").symlink_to(self._gpu)
        write(self._devfreq / "governor", "nvhost_podgov")
        write(self._devfreq / "min_freq", GPU_MIN_HZ)
        write(self._devfreq / "max_freq", GPU_MAX_HZ)
        self.gpu(load_percent=0, clock_hz=GPU_MIN_HZ)
        for number, name in enumerate(("CPU-therm", "GPU-therm")):
            write(self._zones / f"thermal_zone{number}/type", name)
        self.heat(40.0, 39.0)
        (self.root / "class/thermal").mkdir(parents=True)
        for number in range(2):
            link = self.root / f"class/thermal/thermal_zone{number}"
            link.symlink_to(self._zones / f"thermal_zone{number}")
        for number in range(2):
            cpu = self.root / f"devices/system/cpu/cpu{number}"
            write(cpu / "online", 1)
            for name, khz in (("scaling_cur_freq", 1510400), ("scaling_min_freq", 115200),
                              ("scaling_max_freq", 1510400), ("cpuinfo_min_freq", 115200),
                              ("cpuinfo_max_freq", 1510400)):  # fmt: skip
                write(cpu / "cpufreq" / name, khz)
            write(cpu / "cpufreq/scaling_governor", "schedutil")
        write(self.root / "devices/virtual/dmi/id/board_name", "files")
        for folder in ("class/hwmon", "class/power_supply", "kernel/debug"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "stat").symlink_to("/proc/stat")
        self.rail(1, 5.0)

    def rail(self, number, watts):
        """Set the power of a rail by its current; whole mA, as the chip reports."""
        path = self._chip / f"curr{number}_input"
        # Moved into place: a reader sees the old or the new text, never an empty file.
        path.with_suffix(".new").write_text(f"{round(watts * 1e6 / VOLTS_MV)}\n")
        path.with_suffix(".new").rename(path)

    def gpu(self, load_percent, clock_hz):
        write(self._gpu / "load", int(load_percent * 10))
        write(self._devfreq / "cur_freq", clock_hz)

    def heat(self, cpu_c, gpu_c):
        for number, degrees in enumerate((cpu_c, gpu_c)):
            write(self._zones / f"thermal_zone{number}/temp", int(degrees * 1000))


def install_tools():
    """Put stand-ins of NVIDIA's tools where jetson-stats looks for them, and its group."""
    for name, text in (("nvpmodel", NVPMODEL), ("jetson_clocks", JETSON_CLOCKS)):
        path = Path("/usr/bin") / name
        path.write_text(text)
        path.chmod(0o755)
    with Path("/etc/group").open("a") as groups:
        groups.write("jtop:x:29999:\n")
    Path("/fake_sys").symlink_to("/sys")  # where the service looks in its testing mode
    Path("/etc/nv_tegra_release").write_text("# R36 (release), REVISION: 3.0, a board of files\n")
