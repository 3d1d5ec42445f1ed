"""What `cpu_info` says of the machine, and how `latchwork info` and `latchwork bench` write it."""

import platform

import latchwork as lw
import pytest
from latchwork.machine import machine_text


def test_caches_grow_from_level_to_level():
    caches = lw.cpu_info()["caches"]
    assert list(caches) == ["l1d", "l2", "l3"]
    assert 8 * 1024 <= caches["l1d"]["bytes"] < caches["l2"]["bytes"] <= caches["l3"]["bytes"]
    assert 1 <= caches["l1d"]["shared_by"] <= caches["l2"]["shared_by"]
    assert all(cache["shared_by"] >= 1 for cache in caches.values())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only CPUs with CPUID say who made them")
def test_maker_and_family_are_the_systems():
    named = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                named.setdefault(key.strip(), value.strip())
    except OSError:
        pytest.skip("this system has no /proc/cpuinfo")
    info = lw.cpu_info()
    assert info["maker"] == named["vendor_id"]
    assert (info["family"], info["model"]) == (int(named["cpu family"]), int(named["model"]))
    assert bool(info["hypervisor"]) == ("hypervisor" in named["flags"].split())


def test_text():
    caches = {
        "l1d": {"bytes": 49152, "shared_by": 2},
        "l2": {"bytes": 1310720, "shared_by": 1},
        "l3": {"bytes": 32 << 20, "shared_by": 16},
    }
    assert machine_text(caches) == "L1D 48 KB shared by 2 CPUs, L2 1.25 MB, L3 32 MB shared by 16 CPUs"
    assert machine_text(["baseline", "avx2"]) == "baseline, avx2"
    assert machine_text(6) == "6"


def test_info_shows_the_caches(capsys):
    lw.show_versions()
    info, printed = lw.cpu_info(), capsys.readouterr().out
    assert machine_text(info["caches"]) in printed
    assert info["maker"] in printed
