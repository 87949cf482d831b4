"""What a shell offers when Tab is pressed, and the scripts that make it ask.

The script of a shell runs `vsml __complete SHELL LINE` with the command line up to the cursor. An answer is one
candidate per line; a blank at its end means that the word is complete.

Only names of parts need JAX to be found. They are kept in the user's cache until a source file of the package changes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vsml
from vsml import pretrained
from vsml.cli import usage
from vsml.errors import UserError
from vsml.runs import names
from vsml.runs.files import write_whole
from vsml.shipped import gin_root, recipes, shipped_files

SCRIPTS = {
    "bash": """\
_vsml() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null))
}
complete -o nospace -F _vsml vsml
""",
    "zsh": """\
#compdef vsml
_vsml() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    compadd -- "${(@)${(@M)found:#* }% }"
    compadd -S '' -- "${(@)found:#(* |)}"
}
compdef _vsml vsml
""",
    "fish": """\
function __vsml_complete
    set -l words (commandline -opc)
    $words[1] __complete fish (commandline -cp | string collect) 2>/dev/null
end
complete -c vsml -f -a '(__vsml_complete)'
""",
}
OPEN = ("=", "/", ".")
"""Ends of candidates after which a word goes on."""

Candidates = dict[str, str]
"""Text -> what it means, perhaps nothing."""


def script(shell: str) -> str:
    """What a shell is to run when it starts. Raises `UserError` for a shell that is not known."""
    if shell not in SCRIPTS:
        raise UserError(f"completion {shell}: the shells are {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def complete(words: Sequence[str]) -> str:
    """The answer to a shell: SHELL, the line up to the cursor, and of bash the characters that it breaks words at."""
    shell, line, *breaks = words
    *before, current = re.split(r"\s+", line.lstrip())
    found = {text: meaning for text, meaning in _candidates(before[1:], current).items() if text.startswith(current)}
    if shell == "fish":  # adds blanks by itself
        return "".join(f"{text}\t{meaning}\n" for text, meaning in found.items())
    whole = [text if text.endswith(OPEN) else f"{text} " for text in found]
    if shell == "bash":  # replaces what follows the last break alone
        kept = "@$"  # these begin the word that they break
        done = max(0, *(current.rfind(mark) + (mark not in kept) for mark in "=" + "".join(breaks)))
        whole = [re.sub(r"([\s'\"()&;|$`\\])(?!$)", r"\\\1", text[done:]) for text in whole]
    return "".join(f"{text}\n" for text in whole)


def _candidates(before: Sequence[str], current: str) -> Candidates:
    """Candidates for `current` after the words `before` it, also those that do not begin with it."""
    if not before:
        return {verb.name: verb.summary for verb in usage.VERBS}
    verb = next((verb for verb in usage.VERBS if verb.name == before[0]), None)
    if verb is None:
        return {}
    flags = {f"--{flag.name}": flag for flag in verb.flags}
    name, given, value = current.partition("=")
    if name in flags and given:
        return {f"{name}={text}": meaning for text, meaning in _values(flags[name], value).items()}
    if current.startswith("-"):
        return {name: flag.meaning for name, flag in flags.items()} | {"--help": "show words, flags and examples"}
    if before[-1] in flags and flags[before[-1]].value:
        return _values(flags[before[-1]], current)
    said = [word for last, word in itertools.pairwise(before) if not _belongs_to_a_flag(last, word, flags)]
    if not verb.kinds or (len(said) >= len(verb.kinds) and not verb.repeats):
        return {}
    kind = verb.kinds[min(len(said), len(verb.kinds) - 1)]
    return _of_kind(kind, current, said[0] if said else "")


def _belongs_to_a_flag(last: str, word: str, flags: Mapping[str, usage.Flag]) -> bool:
    return word.startswith("-") or (last in flags and bool(flags[last].value))


def _values(flag: usage.Flag, current: str) -> Candidates:
    return dict.fromkeys(flag.choices, "") or (_of_kind(flag.kind, current, "") if flag.kind else {})


def _of_kind(kind: usage.Kind, current: str, first: str) -> Candidates:
    """Candidates of a kind of word; `first` is the recipe, sweep or run that the line begins with."""
    if kind == "shell":
        return dict.fromkeys(SCRIPTS, "")
    if kind == "pretrained":
        return {name: pretrained.card(name).summary for name in pretrained.names()}
    if kind == "part":
        parts = {name: part["summary"] for name, part in _known().items()}
        return dict.fromkeys((name.partition(".")[0] for name in parts), "") | _stepwise(parts, current)
    if kind == "recipe":
        return dict(recipes()) | _paths(current, _is_gin)
    if kind == "sweep":
        return dict(recipes("sweeps")) | _paths(current, _is_gin)
    if kind == "tasks":
        return dict.fromkeys((file for file in shipped_files() if file.startswith("tasks/")), "") | _paths(
            current, _is_gin
        )
    if kind == "override":
        return _overrides(current, first)
    wanted: dict[str, Callable[[Path], bool]] = {
        "run": lambda path: (path / names.CONFIG_JSON).is_file(),
        "results": lambda path: (path / names.SWEEP).is_file() or (path / names.CONFIG_JSON).is_file(),
        "learned": lambda path: path.suffix == names.EXPORTED or (path / names.CONFIG_JSON).is_file(),
        "directory": lambda path: False,
        "file": lambda path: path.is_file(),
    }
    named = {f"{pretrained.PREFIX}{name}": "" for name in pretrained.names()} if kind == "learned" else {}
    return named | _paths(current, wanted[kind])


def _is_gin(path: Path) -> bool:
    return path.suffix == ".gin"


def _paths(current: str, wanted: Callable[[Path], bool]) -> Candidates:
    """Below the folder that `current` is in: what is wanted, and further folders to look into."""
    folder, hidden = current.rpartition("/")[0], current.rpartition("/")[2].startswith(".")
    start = f"{folder}/" if "/" in current else ""
    try:
        entries = sorted(Path(start or ".").expanduser().iterdir())
    except OSError:
        return {}
    found = {}
    for entry in entries:
        if entry.name.startswith(".") and not hidden:
            continue
        if wanted(entry):
            found[start + entry.name] = ""
        elif entry.is_dir():
            found[f"{start}{entry.name}/"] = ""
    return found


def _overrides(current: str, first: str) -> Candidates:
    """Gin files and keys; after `KEY=`, the values of the key."""
    key, given, _ = current.partition("=")
    if given:
        return {f"{key}={value}": "" for value in _choices(key, first)}
    files = [file for file in shipped_files() if not file.startswith(("recipes/", "sweeps/")) and "/" in file]
    keys = {f"{key}=": "" for key in _bound_keys(first)}
    return {**_stepwise(dict.fromkeys(files, "") | keys | _fields(), current), **_paths(current, _is_gin)}


def _stepwise(found: Candidates, current: str) -> Candidates:
    """Long names up to the next `.` or `/` after what is typed: there are hundreds."""
    shown: dict[str, str] = {}
    for text, meaning in found.items():
        if text.startswith(current):
            is_file = text.endswith(".gin")
            rest = re.match(r"[^/]*/?" if is_file else r"[^./=]*[./=]?", text[len(current) :])
            step = current + (rest[0] if rest else "")
            shown[step] = meaning if step == text else ""
    return shown


def _bound_keys(first: str) -> dict[str, str]:
    """Key -> value: macros that shipped files bind, and all that the recipe or run on the line binds."""
    macros = re.findall(r"^([A-Z][A-Z0-9_]*)\s*=\s*(.*)", _shipped_text(), re.MULTILINE)
    own = re.findall(r"^((?:\w+/)*[a-z]\w*\.[\w.]+|[A-Z][A-Z0-9_]*)\s*=\s*(.*)", _text(first), re.MULTILINE)
    return dict([*macros, *own])


def _shipped_text() -> str:
    files = [name for name in shipped_files() if not name.startswith("sweeps/")]
    return "\n".join((gin_root() / name).read_text(encoding="utf-8") for name in files)


def _text(first: str, including: frozenset[Path] = frozenset()) -> str:
    """The gin file that a recipe or a run directory means, with what it includes, or nothing."""
    shipped = [gin_root() / first, gin_root() / "recipes" / f"{first}.gin"]
    for path in (*shipped, Path(first) / names.CONFIG_GIN, Path(first)):
        if first and path.is_file() and path.suffix == ".gin" and path not in including:
            own = path.read_text(encoding="utf-8", errors="replace")
            included = re.findall(r"""^include\s+["'](.+?)["']""", own, re.MULTILINE)
            return "\n".join([*(_text(file, including | {path}) for file in included), own])
    return ""


def _choices(key: str, first: str) -> list[str]:
    """Values of a key, where they can be listed: of a macro the parts of its axis; of a field what it takes."""
    part, _, field = key.rpartition("/")[2].rpartition(".")
    known = _known().get(part, {}).get("fields", {}).get(field)
    if known:
        return known["choices"]
    axis = re.match(r"@(?:\w+/)*(\w+)\.", _bound_keys(first).get(key, ""))
    return [f"@{name}" for name in _known() if axis and name.startswith(f"{axis[1]}.")]


def _fields() -> Candidates:
    return {
        f"{part}.{name}=": field["meaning"]
        for part, about in _known().items()
        for name, field in about["fields"].items()
    }


def _known() -> Mapping[str, Any]:
    """The parts with their fields, from the cache, or from the catalogue, which takes a second."""
    import platformdirs

    package = Path(vsml.__file__).parent
    sources = {str(path): path.stat().st_mtime_ns for path in sorted(package.rglob("*.py"))}
    of = json.loads(json.dumps([vsml.__version__, version("optax"), sources]))
    kept = platformdirs.user_cache_path("vsml") / "names.json"
    try:
        content = json.loads(kept.read_text())
        if content["of"] == of:
            return content["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = dict(_catalogue())
    with suppress(UserError):  # it is found again the next time
        write_whole(kept, json.dumps({"of": of, "parts": found}))
    return found


def _catalogue() -> Iterator[tuple[str, Any]]:
    from typing import Literal, get_args, get_origin

    from vsml.config import parts

    def choices(hint: Any) -> list[str]:
        values = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
        return [str(value) for value in values]

    for part in [*parts(), *parts("train"), *parts("optax")]:
        fields = {
            name: {"meaning": field.doc.partition(". ")[0], "choices": choices(field.type)}
            for name, field in part.fields.items()
        }
        yield part.name, {"summary": part.summary, "fields": fields}
