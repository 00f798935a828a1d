"""The one decorator every kernel is compiled by, and the cache its machine code is kept in.

The cache folder carries the digest of all kernel sources, because Numba notices an edit in the file of a
function only and would go on using the old machine code of a callee in another file, silently. Machine code
is executed as it is loaded, so files are used only when they are, byte for byte, those that were sealed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending

Function = TypeVar("Function", bound=Callable[..., Any])

# Without nnan and ninf: kernels meet missing values, and with those flags isnan() answers no to a NaN.
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
EXACT = FASTMATH - {"reassoc", "arcp", "afn"}
SEAL = "sealed.json"
STALE_S = 30 * 86400.0

_verified: dict[tuple[str, int, int, int], str] = {}  # path, inode, time and size of a file, to its digest


def _source_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _cache_root() -> Path:
    """The folder named for caches by the user, by systemd, or by the desktop standard, in this order."""
    for variable, below in (
        ("STREAMRNN_CACHE_DIR", ""),
        ("CACHE_DIRECTORY", ""),
        ("XDG_CACHE_HOME", "streamrnn"),
    ):
        if value := os.environ.get(variable):
            return Path(value.split(":")[0]) / below
    return Path.home() / ".cache" / "streamrnn"


def _digests(folder: Path) -> dict[str, str]:
    """Name and digest of each file in `folder`."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            stat = path.stat()
            identity = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
            # Numba replaces files whole. One that was not replaced keeps the digest it was verified by, so
            # that a bit that flipped since is found at the next start and not sealed in.
            if identity not in _verified:
                _verified[identity] = hashlib.sha256(path.read_bytes()).hexdigest()
            digests[str(path.relative_to(folder))] = _verified[identity]
    return digests


def verify(folder: Path) -> bool:
    """Empty `folder` unless it holds exactly the files that were sealed; True when it was kept."""
    _verified.clear()
    try:
        kept = bool(json.loads((folder / SEAL).read_bytes()) == _digests(folder))
    except (OSError, ValueError, RecursionError):
        kept = False
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


def seal(folder: Path | None = None) -> None:
    """Write down the digests of what is in the cache, so that the next start may trust it."""
    folder = CACHE if folder is None else folder
    try:
        text = json.dumps(_digests(folder), indent=1)
        if (folder / SEAL).exists() and (folder / SEAL).read_text() == text:
            return
        part = folder / f"{SEAL}.{os.getpid()}.part"
        part.write_text(text)
        part.replace(folder / SEAL)
    except OSError:
        # A cache that cannot be sealed (full or read-only disk) is compiled again at the next start.
        return


def _tidy(root: Path) -> None:
    """Remove the folders of older versions that nobody has sealed for a month."""
    for folder in root.glob("numba-*"):
        if time.time() - folder.stat().st_mtime > STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _open_cache() -> Path:
    try:
        folder = _cache_root() / f"numba-{_source_digest()[:32]}"
        if verify(folder):
            os.utime(folder)
        _tidy(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        # No place to keep machine code: compile into a folder that ends with this process.
        folder = Path(tempfile.mkdtemp(prefix="streamrnn-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    else:
        atexit.register(seal, folder)
    return folder


CACHE = _open_cache()


def jit(function: Function) -> Function:
    """Compile `function`: cached, without the GIL, with the arithmetic of C for division by zero."""
    return _compile(function)


def inlined(function: Function) -> Function:
    """`jit` for a callee that the compiler would leave standing alone, but that must be compiled into its callers.

    Alone it exists twice, once as itself and once as optimised with its caller, and the two may differ in the last
    bit: which is run depends on whether machine code was compiled just now or loaded.
    """
    return _compile(function, forceinline=True)


def spliced(function: Function) -> Function:
    """`jit` for a callee that stands in its callers as if it was written there, before anything is compiled.

    Else whatever calls it compiles it again, and so do their callers, each with all below it.
    """
    return _compile(function, inline="always")


def exact(function: Function) -> Function:
    """`jit` for a function in which sums are to be rounded in the order they are written in."""
    return _compile(function, fastmath=EXACT)


def foreign(name: str, result: str, *arguments: str) -> Any:
    """Return a function of the system's library for kernels to call; types by their names in Numba."""
    types = numba.types
    return types.ExternalFunction(name, getattr(types, result)(*(getattr(types, each) for each in arguments)))


def _at(kind: Any) -> Any:
    """Make a function of kernels that takes an address for a pointer to numbers of a kind."""
    types: Any = numba.types
    pointer = types.CPointer(kind)

    @cast(Any, numba.extending.intrinsic)  # type: ignore[untyped-decorator]
    def at(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, __: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(pointer))

        return pointer(address), generate

    return at


double_at = _at(numba.types.float64)
single_at = _at(numba.types.float32)
whole_at = _at(numba.types.int64)
view: Any = cast(Any, numba).carray
"""The contiguous array of a shape that begins at a pointer. It keeps nothing: whoever has the memory does."""


def _compile(
    function: Function, forceinline: bool = False, fastmath: set[str] = FASTMATH, inline: str = "never"
) -> Function:
    settings: Any = numba.config
    njit: Any = numba.njit  # its types leave some of its settings out
    kept = settings.CACHE_DIR
    settings.CACHE_DIR = str(CACHE)  # read when the function is decorated; other users keep their own
    try:
        compiled = njit(
            nogil=True,
            cache=True,
            error_model="numpy",
            fastmath=fastmath,
            forceinline=forceinline,
            inline=inline,
            no_cfunc_wrapper=True,  # for callbacks from C, of which there are none
        )(function)
    finally:
        settings.CACHE_DIR = kept
    if hasattr(compiled, "_cache"):  # not with NUMBA_DISABLE_JIT
        _save_if_possible(compiled)
    return cast(Function, compiled)


def _save_if_possible(compiled: Any) -> None:
    """Seal what is saved; let a full disk cost a compilation at the next start, not this one as Numba would."""
    save = compiled._cache.save_overload

    def save_or_not(signature: object, code: object) -> None:
        with contextlib.suppress(OSError):
            save(signature, code)
        # At once: another process that starts meanwhile empties what is not sealed, and both would never be done.
        seal(CACHE)

    compiled._cache.save_overload = save_or_not
