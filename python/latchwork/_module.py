"""What all layers and networks share: configuration, parameters, copies and files."""

from __future__ import annotations

import contextlib
import copy
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, overload

import numpy as np

from latchwork import _core, files
from latchwork._arrays import boolean, contiguous_real_array, integer, real_dtype, seed_number
from latchwork._parameters import Layout, Parameters, layout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from latchwork._arrays import Array
    from latchwork._core import Network32
    from latchwork._writing import FilePath

# Kept, because finding a dtype by its name takes as long as the arithmetic of a small step.
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("float32", "float64")}

# The options that choose a layer's initial values and do nothing else.
_INITIAL = frozenset({"forget_bias", "init", "init_scale", "t_max"})

V = TypeVar("V")
# One of the core's classes.
C = TypeVar("C")
# The form in which the user has the state of a module.
S = TypeVar("S")


class Config(NamedTuple):
    """What a layer or network is, apart from its parameters; JSON can hold it."""

    modules: list[dict[str, Any]]  # each layer's options as the core's `checked_module` gives them
    dtype: str
    python: dict[str, Any]  # options that only the Python package knows

    @classmethod
    def of_layer(cls, dtype: Any, options: Mapping[str, Any], **python: Any) -> Self:
        """Have the core check the options of one layer. ValueError or TypeError."""
        return cls([_core.checked_module(options)], real_dtype(dtype).name, python)


class Option(Generic[V]):
    """Read-only attribute: the core's option of this name, or what ``read`` makes of the configuration."""

    def __init__(self, read: Callable[[Config], V] | None = None) -> None:
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, module: None, owner: type) -> Self: ...
    @overload
    def __get__(self, module: Module, owner: type) -> V: ...
    def __get__(self, module: Module | None, owner: type) -> Self | V:
        if module is None:
            return self
        if self._read is not None:
            return self._read(module._config)
        value: V = module._config.modules[0][self._name]
        return value

    def __set__(self, module: Module, value: V) -> None:
        raise AttributeError(f"{self._name} cannot be changed: build a new {type(module).__name__} instead")


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` with ``strict=False`` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer or a network: parameters, and how to copy, save and change them.

    Any number of threads may use a module at once, also while another one writes its parameters: a call keeps the
    weights it began with. ``copy.deepcopy`` and pickle make independent copies, weights included.
    """

    _kind: ClassVar[str]
    _python_options: ClassVar[tuple[str, ...]] = ()  # the keys of `Config.python`; their values are flags
    # Attributes that are not copied: the copy makes its own.
    _not_copied: ClassVar[frozenset[str]] = frozenset({"_core", "_layout", "_in_network", "_initial_version"})

    _config: Config
    _core: Network32
    _layout: Layout
    _in_network: bool
    _members: int | None = None  # how many a network has, if several, and the layers in it; None: one
    _seed: int | None = None  # of the initial values; None: they were not drawn from a seed
    _initial_version: int  # the core's version right after the initial values were written

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters and of every output."""
        return _DTYPES[self._config.dtype]

    @property
    def parameters(self) -> Parameters:
        """Mapping from PyTorch's names to read-only views, which show every later write.

        ``module.parameters[name] = array`` writes: the shape must match exactly (ValueError), real numbers are
        converted to the module's dtype (TypeError for others). See `edit` for changes in place.
        """
        return Parameters(self)

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, Array]]:
        """Change parameters in place: ``with module.edit() as p: p["weight_ih_l0"] *= 0.5``.

        Yields writeable copies by name. If the block ends normally, all of them are written back at once; after an
        exception nothing is. What other threads wrote to this module meanwhile is overwritten.

        Yields
        ------
        dict of str to numpy.ndarray

        Raises
        ------
        ValueError
            If a name was added or removed, or a shape changed.
        """
        values = self.state_dict()
        yield values
        self.load_state_dict(values)

    def state_dict(self) -> dict[str, Array]:
        """Copy all parameters by PyTorch's names, as of one moment even while another thread writes."""
        flat = self._read()
        # The tensors of several members are strided in the buffer, and files take contiguous ones only.
        return {name: np.ascontiguousarray(place.view(flat)) for name, place in self._layout.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Write parameters by name: all of them or, on an error, none.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            Arrays, or PyTorch's tensors (the ``state_dict()`` of a ``torch.nn.LSTM``, say), float16 and bfloat16 too.
            Shapes must match exactly.
        strict : bool, default True
            Whether the names must be exactly those of `parameters`.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``, both empty if ``strict``.

        Raises
        ------
        ValueError
            If a shape differs or, with ``strict``, a name is missing or unexpected.
        TypeError
            If a value does not hold real numbers.
        """
        if not hasattr(state_dict, "keys"):
            raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
        missing = [name for name in self._layout if name not in state_dict]
        unexpected = [name for name in state_dict if name not in self._layout]
        if strict and (missing or unexpected):
            faults = [f"{fault} {', '.join(map(str, names))}" for fault, names in
                      (("missing", missing), ("unexpected", unexpected)) if names]  # fmt: skip
            raise ValueError(f"state_dict: expected exactly the names of the parameters, got {'; '.join(faults)}")
        self._write(
            {
                name: contiguous_real_array(name, state_dict[name], self.dtype, place.shape)
                for name, place in self._layout.items()
                if name in state_dict
            }
        )
        return IncompatibleKeys(missing, unexpected)

    def save(self, path: FilePath) -> None:
        """Write configuration and weights to a ``.safetensors`` file; `latchwork.load` reads it.

        The write is atomic: a file that was there before stays until the new one is complete on the disk, which then
        has its mode. If the path is a link, it stays one, and the file that it leads to is replaced.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Where to write.

        Raises
        ------
        OSError
            If the file cannot be written, or if something is there that is no regular file: a folder, a FIFO, a device.
        """
        files.save(self, path)

    def __repr__(self) -> str:
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if name == "seed":
                continue
            value = self._config.dtype if name == "dtype" else getattr(self, name)
            if parameter.default is parameter.empty:
                shown.append(repr(value))
            elif value != parameter.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in self._not_copied}
        seed = self._seed if self._is_as_built() else None
        return state | {"_values": self._read(), "_seed": seed, "_mask_seeds": self._mask_seeds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        values, mask_seeds = self.__dict__.pop("_values"), self.__dict__.pop("_mask_seeds")
        self._create_unset()
        self._mask_seeds = mask_seeds
        self._write({name: place.view(values) for name, place in self._layout.items()})
        self._initial_version = self._version()

    def _create(self, seed: Any) -> None:
        """Make the parameters from the configuration, with initial values from a seed."""
        self._seed = seed_number("seed", seed)
        self._build(self._config.modules, self._seed)
        self._initial_version = self._version()

    def _create_unset(self) -> None:
        """Make parameters that are about to be written, so that no time goes into drawing initial values."""
        self._build(without_initial_values(self._config.modules), 0)
        self._mask_seeds = (seed_number("seed", None), 0)

    def _build(self, modules: Sequence[Mapping[str, Any]], seed: int) -> None:
        self._adopt(self._new_core(modules, seed, self._members or 1))
        self._in_network = False

    def _new_core(self, modules: Sequence[Mapping[str, Any]], seed: int, members: int) -> Network32:
        return core_class(self.dtype, _core.Network32, _core.Network64)(modules, "of_layer", seed, members)

    def _adopt(self, core: Network32) -> None:
        self._core = core
        self._layout = layout_of(core.layout(), self._members)

    def _read(self) -> Array:
        return self._core.read()

    def _write(self, values: Mapping[str, Array]) -> None:
        self._core.write({name: np.ascontiguousarray(value) for name, value in values.items()})

    @property
    def _mask_seeds(self) -> tuple[int, int]:
        """The key and the count of the mask seeds that `record` takes if it is given none."""
        return self._core.mask_seeds

    @_mask_seeds.setter
    def _mask_seeds(self, seeds: tuple[int, int]) -> None:
        self._core.mask_seeds = seeds

    def _version(self) -> int:
        return self._core.version

    def _is_as_built(self) -> bool:
        """Say whether nothing was written since the constructor drew the initial values."""
        return self._seed is not None and not self._in_network and self._version() == self._initial_version

    def _initial_values(self, members: int) -> dict[str, Array]:
        """Draw initial values for members, each tensor (members, ...): member m's from seed + m."""
        assert self._seed is not None
        core = self._new_core(self._config.modules, self._seed, members)
        flat = core.read()
        return {name: place.view(flat) for name, place in layout_of(core.layout(), members).items()}

    def _check_callable(self) -> None:
        """Raise ValueError if there are several members: a call of the layer alone would not say which one is meant."""
        if self._members is not None:
            name = type(self).__name__
            raise ValueError(
                f"{name}: expected a layer of one member, got one of {self._members}; "
                "call the network, or a layer of network.member(m)"
            )

    def _to_file(self) -> files.Content:
        config = {"modules": self._config.modules, "dtype": self._config.dtype, "members": self._members or 1}
        return files.Content(self._kind, config, self._config.python, self.state_dict())

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        module = cls._unbuilt(cls._config_from_file(content))
        module._members = members_of_file(content)
        files.check_tensors(module._config, module._members or 1, content.tensors)
        module._create_unset()
        module.load_state_dict(content.tensors)
        return module

    @classmethod
    def _unbuilt(cls, config: Config) -> Self:
        """Make a module whose parameters are yet to be made."""
        module = cls.__new__(cls)
        module._config = config
        return module

    @classmethod
    def _config_from_file(cls, content: files.Content) -> Config:
        """Check what a file says of a layer. ValueError, TypeError or KeyError."""
        modules, dtype, _ = files.named("config", content.config, files.CONFIG)
        flags = files.named("python", content.python, cls._python_options)
        if not isinstance(modules, list) or len(modules) != 1:
            raise ValueError(f"modules: expected a list of one module, got {modules!r}")
        python = {name: boolean(name, flag) for name, flag in zip(cls._python_options, flags, strict=True)}
        config = Config.of_layer(dtype, modules[0], **python)
        if kind_of(config.modules[0]) != cls._kind:
            raise ValueError(f"kind: expected {cls._kind}, got {kind_of(config.modules[0])}")
        return config


def core_class(dtype: np.dtype[Any], float32: type[C], float64: type[C]) -> type[C]:
    """Choose that one of two classes of the core which computes in this dtype."""
    return float64 if dtype == np.float64 else float32


def members_of_file(content: files.Content) -> int | None:
    """Read how many members a file's model has; None: one."""
    members = integer("members", content.config["members"], 1)
    return members if members > 1 else None


def kind_of(options: Mapping[str, Any]) -> str:
    """Give the kind of a layer, as files name it, from the core's options."""
    return "lstm_cell" if options.get("cell") else str(options["kind"])


def without_initial_values(modules: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the options of initial values, which parameters that are about to be written do not need."""
    return [{name: value for name, value in options.items() if name not in _INITIAL} for options in modules]
