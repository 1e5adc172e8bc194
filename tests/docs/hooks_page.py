"""`docs/hooks.md`: a written page (`hooks_head.md`) in which comments stand for what the code says.

    <!-- Storage -->                                            a contract: heading, docstring
    <!-- Storage.append | when | from where | blocks? | raises -->  a method: heading, signature, docstring, four facts
    <!-- contents -->, <!-- records -->                         a list of all of them; the records that cross contracts

So a signature on the page is the one in the code. A hook or method without a place, without one of the four facts or
without an example after it is an error here, which the test of the page shows.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

HEAD = Path(__file__).parent / "hooks_head.md"
ROOT = Path(__file__).parents[2] / "corekit"
# What plugins implement or are given: the hooks, and the contracts in the order of the page.
CLASSES = {
    "Hooks": "hooks.py",
    "Storage": "storage_api.py",
    "BackgroundSync": "storage_api.py",
    "AuthScheme": "api.py",
    "Consensus": "api.py",
    "EnsembleConsensus": "api.py",
    "ConsensusHost": "api.py",
    "ClientProtocol": "api.py",
    "ClientSession": "api.py",
    "Gateway": "api.py",
    "Transport": "api.py",
    "Observer": "api.py",
}
# Classes with a decorator or a base that makes them records, but which no plugin meets.
INTERNAL = {"PluginInfo", "Parts", "Events"}
PLACE = re.compile(r"^<!-- (\w+)(?:\.(\w+))?((?: \| [^|\n]+)*) -->$", re.MULTILINE)
FACTS = ("called", "from", "may block", "may raise")
_TABLE = f"| {' | '.join(FACTS)} |\n{'|---' * len(FACTS)}|\n"
_SECTION = re.compile(r"^(Raises|Args|Returns|Attributes)( \([^)]*\))?:$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def classes() -> dict[str, ast.ClassDef]:
    """The classes by name, as they stand in the code."""
    found: dict[str, ast.ClassDef] = {}
    for file in sorted(set(CLASSES.values())):
        for node in ast.parse((ROOT / file).read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in CLASSES:
                found[node.name] = node
    return {name: found[name] for name in CLASSES}


def methods(cls: ast.ClassDef) -> dict[str, Function]:
    """Its public methods and properties."""
    return {
        node.name: node
        for node in cls.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }


def records() -> list[ast.ClassDef]:
    """The classes without methods: what goes in and out of hooks and contracts."""
    return [
        node
        for file in ("hooks.py", "storage_api.py", "api.py")
        for node in ast.parse((ROOT / file).read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name not in INTERNAL | CLASSES.keys()
    ]


def _of_record(node: ast.ClassDef) -> str:
    fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)]
    fields += [signature(method) for method in methods(node).values()]
    return "\n".join([f"### {node.name}\n", *(f"    {field}" for field in fields), "", _document(node)])


def signature(function: Function) -> str:
    """As a caller writes it: without `self`; a property without parentheses."""
    returns = ast.unparse(function.returns) if function.returns is not None else "None"
    if any(isinstance(one, ast.Name) and one.id == "property" for one in function.decorator_list):
        return f"{function.name}: {returns}"
    arguments = function.args
    arguments.args = [one for one in arguments.args if one.arg != "self"]
    before = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return f"{before}{function.name}({ast.unparse(arguments)}) -> {returns}"


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    listing = False
    for line in docstring.splitlines():
        heading = _SECTION.match(line.strip())
        if heading:
            lines.append(f"{heading[1]}{heading[2] or ''}:\n")
            listing = True
        elif listing and re.match(r"    (\S.*?): ", line):
            name, _, text = line.strip().partition(": ")
            name = ", ".join(f"`{one}`" for one in name.split(", "))
            lines.append(f"- {name}: {text}")
        elif listing and line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            listing = listing and not line.strip()
            lines.append(line)
    return "\n".join(lines).strip()


def _document(node: Function | ast.ClassDef) -> str:
    text = ast.get_docstring(node)
    assert text, f"{node.name} has no docstring"
    return prose(text)


def _of_class(node: ast.ClassDef) -> str:
    return f"## {node.name}\n\n{_document(node)}"


def _of_method(cls: str, node: Function, facts: list[str]) -> str:
    assert len(facts) == len(FACTS), f"{cls}.{node.name} needs {', '.join(FACTS)}, separated by |"
    title = node.name if cls == "Hooks" else f"{cls}.{node.name}"
    return f"### {title}\n\n    {signature(node)}\n\n{_document(node)}\n\n{_TABLE}| {' | '.join(facts)} |"


def _contents(places: list[tuple[str, str]]) -> str:
    lines = []
    for cls in dict.fromkeys(cls for cls, _ in places):
        names = [name for one, name in places if one == cls and name]
        links = ", ".join(f"[{name}](#{(name if cls == 'Hooks' else cls + name).lower()})" for name in names)
        lines.append(f"- {'Hooks' if cls == 'Hooks' else f'[{cls}](#{cls.lower()})'}: {links}")
    names = ", ".join(f"[{node.name}](#{node.name.lower()})" for node in records())
    return "\n".join([*lines, f"- [Records](#records): {names}"])


def faults(text: str) -> list[str]:
    """What a page like `hooks_head.md` lacks, one text each."""
    found = []
    places = list(PLACE.finditer(text))
    there = [(place[1], place[2]) for place in places]
    for cls, node in classes().items():
        due = [(cls, name) for name in methods(node)] + ([(cls, None)] if cls != "Hooks" else [])
        found += [f"{'.'.join(filter(None, one))} is not on the page" for one in due if one not in there]
    for at, place in enumerate(places):
        end = places[at + 1].start() if at + 1 < len(places) else len(text)
        if place[2] and "```python" not in text[place.end() : end]:
            found.append(f"{place[1]}.{place[2]} has no example")
    return found


def page() -> str:
    """The whole of `docs/hooks.md`."""
    text = HEAD.read_text("utf-8")
    assert not faults(text), f"{HEAD.name}: {'; '.join(faults(text))}"
    known = classes()
    there = [(place[1], place[2] or "") for place in PLACE.finditer(text) if place[1] in CLASSES]

    def fill(place: re.Match[str]) -> str:
        if place[1] == "contents":
            return _contents(there)
        if place[1] == "records":
            return "\n\n".join(_of_record(node) for node in records())
        if not place[2]:
            return _of_class(known[place[1]])
        facts = [fact.strip() for fact in place[3].split("|")[1:]]
        return _of_method(place[1], methods(known[place[1]])[place[2]], facts)

    return PLACE.sub(fill, text)
