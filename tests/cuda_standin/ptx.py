"""PTX, as NVRTC writes it, translated to C++ for the host: what NVIDIA's compiler made of a kernel, executed.

Contraction to fma, flushed subnormals, 32-bit index arithmetic, barriers and shuffles are those of the PTX.
Not covered, and refused by name: calls that were not inlined, textures, tensor cores, asynchronous copies,
synchronisation of a whole grid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .ptx_instructions import SIZE, Instruction, register, split, translate_instruction

_DECLARATION = re.compile(
    r"(?:\.(?:extern|visible|weak)\s+)?\.(?P<space>shared|global|const|local)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
    r"\.(?P<type>\w+)\s+(?P<name>[\w$]+)(?:\[(?P<length>\d*)\])?\s*(?:=\s*(?P<value>\{[^}]*\}|[^;]+))?"
)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+(?:\.ptr\s+(?:\.(?:global|shared|local|const)\s+)?"
    r"(?:\.align\s+\d+\s+)?)?(?P<name>[\w$]+)(?:\[(?P<length>\d+)\])?"
)
_ENTRY = re.compile(
    r"(?:\.visible|\.weak)?\s*\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>.*?)\)(?P<limits>.*?)\{(?P<body>.*?)^\}",
    re.DOTALL | re.MULTILINE,
)
_IGNORED = (".pragma", ".loc", ".file", ".maxntid", ".minnctapersm", ".reqntid", ".maxnreg")
_MEETINGS = ("bar", "barrier", "shfl", "vote", "redux")  # instructions in which threads wait for each other


class Layout:
    """Offsets of named pieces of one memory space, in order, each aligned."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.size = 0

    def add(self, name: str, size: int, align: int) -> None:
        if name not in self.offsets:
            self.offsets[name] = -(-self.size // align) * align
            self.size = self.offsets[name] + size


def _bytes(found: re.Match[str]) -> tuple[int, int]:
    """Size and alignment of what was declared."""
    each = SIZE[found["type"]]
    return each * int(found["length"] or 1), int(found["align"] or each)


class Module:
    """One PTX module.

    Parameters
    ----------
    text : str
        PTX.

    Raises
    ------
    NotImplementedError
        For what the translation does not cover.
    """

    def __init__(self, text: str) -> None:
        text = re.sub(r"/\*.*?\*/", "", re.sub(r"//[^\n]*", "", text), flags=re.DOTALL)
        if re.search(r"^\s*(?:\.\w+\s+)?\.func", text, re.MULTILINE):
            raise NotImplementedError("a call that the compiler did not inline (.func)")
        self.shared, self.dynamic, self.variables = Layout(), [], {}
        self.definitions: list[str] = []
        for found in _DECLARATION.finditer(_ENTRY.sub("", text)):
            self._declare(found)
        entries = list(_ENTRY.finditer(text))
        for entry in entries:  # all static shared memory lies before the dynamic part
            for found in _DECLARATION.finditer(entry["body"]):
                if found["space"] == "shared":
                    self.shared.add(found["name"], *_bytes(found))
        if self.dynamic:
            self.shared.size = -(-self.shared.size // 16) * 16
            self.shared.offsets.update({name: self.shared.size for name in self.dynamic})
        self.entries = [Entry(found, self) for found in entries]

    def _declare(self, found: re.Match[str]) -> None:
        """A variable of the module: shared memory, or C++ data for global and constant memory."""
        name, (size, align) = found["name"], _bytes(found)
        if found["space"] == "shared" and (found["length"] == "" or ".extern" in found[0]):
            self.dynamic.append(name)
        elif found["space"] == "shared":
            self.shared.add(name, size, align)
        else:
            c_name = "variable_" + re.sub(r"\W", "_", name)
            self.variables[name] = c_name
            c_type = f"uint{8 * SIZE[found['type']]}_t"
            values = re.sub(r"\b0[fFdD]([0-9A-Fa-f]+)\b", r"0x\1ull", (found["value"] or "").strip().strip("{}"))
            self.definitions.append(
                f"alignas({max(align, 8)}) static {c_type} {c_name}[{found['length'] or 1}] = {{{values}}};"
            )

    def cpp(self) -> str:
        """The module as C++; `standin_run_NAME(arguments, grid and block, dynamic shared bytes)` for each kernel."""
        inside = "".join(f" || a - reinterpret_cast<uint64_t>({c}) < sizeof {c}" for c in self.variables.values())
        return "\n".join(
            [
                '#include "ptx.h"',
                *self.definitions,
                f"namespace {{ bool in_module(uint64_t a) {{ (void)a; return false{inside}; }} }}",
                *(entry.cpp() for entry in self.entries),
            ]
        )


class Entry:
    """One kernel: its parameters, registers and statements."""

    def __init__(self, found: re.Match[str], module: Module) -> None:
        self.name, self.module = found["name"], module
        limit = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", found["limits"])
        self.most_threads = 1
        for size in limit.groups("1") if limit else ("1024",):
            self.most_threads *= int(size)
        self.parameters, self.local = Layout(), Layout()
        self.sizes: list[int] = []
        for text in split(found["parameters"]):
            parameter = _PARAMETER.match(text)
            if parameter is None:
                raise NotImplementedError(f"parameter {text!r}")
            size, align = _bytes(parameter)
            self.parameters.add(parameter["name"], size, align)
            self.sizes.append(size)
        self.registers: dict[str, str] = {}
        self.meets = False
        # Scopes in braces are left out: NVRTC gives names once. A label becomes a statement of its own.
        body = re.sub(r"^\s*([$\w]+):(?!:)", r"\1:;", found["body"], flags=re.MULTILINE)
        body = re.sub(r"^\s*[{}](?=\s)", "", body, flags=re.MULTILINE)
        self.lines = [line for text in body.split(";") for line in self._statement(text.strip())]

    def _statement(self, text: str) -> Iterator[str]:
        while text[:1] == "}" or re.match(r"\{\s", text) or text == "{":
            text = text[1:].strip()
        if text.endswith(":"):
            yield f"L_{text[:-1].replace('$', '_')}:;"
        elif text.startswith(".reg"):
            self._declare_registers(text)
        elif text.startswith(".local"):
            found = _DECLARATION.match(text)
            assert found is not None, text
            self.local.add(found["name"], *_bytes(found))
        elif text and not text.startswith((".shared", *_IGNORED)):
            guard = re.match(r"@(!?)(%\w+)\s+", text)
            condition = f"if ({guard[1]}{register(guard[2])}) " if guard else ""
            name, _, operands = text[guard.end() if guard else 0 :].partition(" ")
            name, operands = name.split()[0], " ".join([*name.split()[1:], operands])
            kind, *modifiers = name.split(".")
            self.meets = self.meets or kind in _MEETINGS
            yield f"{condition}{{ {translate_instruction(Instruction(kind, modifiers, split(operands)), self)} }}"

    def _declare_registers(self, text: str) -> None:
        kind, names = text.removeprefix(".reg").strip().removeprefix(".").split(None, 1)
        c_type = "bool" if kind == "pred" else f"uint{8 * max(2, SIZE[kind])}_t"
        for name in split(names):
            many = re.fullmatch(r"(%\w+)<(\d+)>", name)
            for one in [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]:
                self.registers.setdefault(one, c_type)

    def address_of(self, name: str) -> str | None:
        """The address of a named variable, as C++: an offset for shared and local memory."""
        for layout in (self.module.shared, self.local):
            if name in layout.offsets:
                return f"uint64_t({layout.offsets[name]})"
        variable = self.module.variables.get(name)
        return variable and f"reinterpret_cast<uint64_t>({variable})"

    def cpp(self) -> str:
        names = [f"{c_type} {register(name)} = 0;" for name, c_type in self.registers.items()]
        copies = [
            f"memcpy(parameters + {offset}, arguments[{i}], {size});"
            for i, (offset, size) in enumerate(zip(self.parameters.offsets.values(), self.sizes, strict=True))
        ]
        # CuPy's own scans return from some threads before a barrier that the others reach; hardware allows it.
        lenient = str(self.name.startswith("cupy_")).lower()
        return "\n".join(
            [
                f"static void body_{self.name}(void* parameters_) {{",
                "char* const parameters = static_cast<char*>(parameters_); begin_thread();",
                f"alignas(16) char local[{max(16, self.local.size)}]; (void)local; (void)parameters;",
                *names,
                *self.lines,
                "return; }",
                f'extern "C" const unsigned standin_limits_{self.name}[] = {{{self.most_threads}, '
                f"{self.module.shared.size}}};",
                f'extern "C" const char* standin_run_{self.name}(void** arguments, const unsigned* shape, '
                "size_t dynamic) {",
                f"alignas(16) char parameters[{max(16, self.parameters.size)}]; (void)arguments;",
                *copies,
                f"return run(shape, {self.module.shared.size} + dynamic, {str(self.meets).lower()}, {lenient}, "
                f"body_{self.name}, parameters); }}",
            ]
        )


def translate(text: str) -> str:
    """PTX as C++."""
    return Module(text).cpp()
