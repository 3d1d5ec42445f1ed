"""Files that try to take all memory or time, or to reach other files: ``python keras_hostile.py FOLDER``.

Writes them, reads each, and prints as JSON the message, the seconds that it took and the memory at its height.
"""

import json
import resource
import sys
import time
import zipfile
from pathlib import Path

import keras_formula as formula
import latchwork as lw
import numpy as np

LSTM = {"class_name": "LSTM", "module": "keras.layers", "config": {"name": "a", "units": 5}}
HUGE = 10**12


def config_of(layer):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}


def write(folder):
    """Write one file for each way to do harm."""
    import h5py

    kernel, recurrent, bias = formula.drawn(np.random.default_rng(0), 7, 5)
    names = [f"layers/lstm/cell/vars/{place}" for place in range(3)]
    sound = dict(zip(names, (kernel, recurrent, bias), strict=True))
    formula.write_keras_archive(folder / "sound.keras", config_of(LSTM), sound)
    weights = (folder / "sound.weights.h5").read_bytes()

    def archive(name, **parts):
        with zipfile.ZipFile(folder / f"{name}.keras", "w", zipfile.ZIP_DEFLATED) as file:
            for part, content in (
                {"config.json": json.dumps(config_of(LSTM)), "model.weights.h5": weights} | parts
            ).items():
                file.writestr(part, content)

    archive("large_config", **{"config.json": b" " * (1 << 28)})
    archive("large_weights", **{"model.weights.h5": bytes(1 << 28)})
    archive("deep_json", **{"config.json": "[" * 10**6})
    archive("deep_object", **{"config.json": '{"config":' * 10**5})
    nested = LSTM
    for _ in range(100):
        nested = config_of(nested)
    archive("deep_models", **{"config.json": json.dumps(nested)})
    archive("many_entries", **{f"part_{number}": b"" for number in range(40_000)})
    archive("large_units", **{"config.json": json.dumps(config_of(LSTM | {"config": {"name": "a", "units": HUGE}}))})
    archive("no_weights", **{"model.weights.h5": b""})

    def hdf5(name, build, like=".keras"):
        path = folder / f"{name}.h5"
        with h5py.File(path, "w") as file:
            build(file)
        if like == ".keras":
            archive(name, **{"model.weights.h5": path.read_bytes()})
            path.unlink()

    def kernels(**options):
        def build(file):
            file[names[1]], file[names[2]] = recurrent, bias
            file.create_dataset(names[0], **options)

        return build

    hdf5("huge", kernels(shape=(HUGE, 20), dtype="f4"))
    hdf5("huge_chunked", kernels(shape=(HUGE, 20), dtype="f4", chunks=(64, 20)))
    hdf5("huge_chunks", kernels(shape=(7, 20), dtype="f4", chunks=(10**7, 20), maxshape=(None, 20)))
    hdf5("compressed", kernels(data=np.zeros((10**6, 20), np.float32), compression="gzip"))
    hdf5("outside", kernels(shape=(7, 20), dtype="f4", external=[("/etc/passwd", 0, 560)]))
    layout = h5py.VirtualLayout((7, 20), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (7, 20))

    def virtual(file):
        kernels(shape=(1,), dtype="f4")(file)
        del file[names[0]]
        file.create_virtual_dataset(names[0], layout)

    def links(link):
        def build(file):
            file[names[1]], file[names[2]], file[names[0]] = recurrent, bias, link

        return build

    def circle(file):
        kernels(data=kernel)(file)
        file["layers/lstm/again"] = file["layers"]

    hdf5("virtual", virtual)
    hdf5("link_outside", links(h5py.ExternalLink("/etc/passwd", "x")))
    hdf5("link", links(h5py.SoftLink(f"/{names[1]}")))
    hdf5("circle", circle)

    def deep(file):
        file.create_group("/".join("x" * 3000))

    hdf5("deep_groups", deep)
    hdf5("many_groups", lambda file: [file.create_group(f"g{number}") for number in range(5000)])
    hdf5(
        "same_numbers",
        lambda file: [file.__setitem__("a", kernel), *(file.__setitem__(f"{n}", file["a"]) for n in names)],
    )

    def attribute(file):
        file.attrs["model_config"] = " " * (20 << 20)

    hdf5("large_text", attribute, ".h5")
    hdf5("deep_text", lambda file: file.attrs.__setitem__("model_config", "[" * 60_000), ".h5")
    for part in (8, 100, len(weights) // 2, len(weights) - 1):
        (folder / f"cut_{part}.h5").write_bytes(weights[:part])
    (folder / "signature.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "noise.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + np.random.default_rng(1).bytes(10_000))


def main(folder):
    write(folder)
    found = {}
    lw.from_keras(folder / "sound.keras")  # what is imported then does not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(folder.iterdir()):
        if path.name.startswith("sound"):
            continue
        start, used = time.perf_counter(), time.process_time()
        try:
            lw.from_keras(path)
            message = "read"
        except ValueError as error:
            message = f"ValueError: {error}"
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        seconds = time.process_time() - used
        found[path.name] = message[:300], round(seconds, 2), round(memory), round(time.perf_counter() - start, 2)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"files": found, "children": round(children)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
