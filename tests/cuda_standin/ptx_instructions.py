"""One PTX instruction as a C++ statement; the functions it calls are in native/ptx.h."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

SIZE = {"pred": 1} | {f"{kind}{bits}": bits // 8 for kind in "busf" for bits in (8, 16, 32, 64)}
C_TYPE = {"pred": "bool", "f16": "uint16_t", "f32": "float", "f64": "double"}
C_TYPE |= {f"{kind}{bits}": f"uint{bits}_t" for kind in "bu" for bits in (8, 16, 32, 64)}
C_TYPE |= {f"s{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)}

_INDEX = {"%tid": "current->place", "%ntid": "size", "%ctaid": "place", "%nctaid": "grid"}
_LANES = {
    "%lanemask_eq": "(1u << block::lane())",
    "%lanemask_lt": "((1u << block::lane()) - 1)",
    "%lanemask_le": "uint32_t((2ull << block::lane()) - 1)",
    "%lanemask_gt": "uint32_t(~((2ull << block::lane()) - 1))",
    "%lanemask_ge": "(~((1u << block::lane()) - 1))",
    "%laneid": "block::lane()",
    "%warpid": "(block::thread_number() / 32)",
}
_ROUND = {"rni": "std::nearbyint", "rzi": "std::trunc", "rmi": "std::floor", "rpi": "std::ceil"}
_ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
_UNORDERED = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}  # not (a >= b) is: less, or one of them is NaN


class Instruction(NamedTuple):
    """`add.ftz.f32 %f1, %f2, %f3`: kind, modifiers (the type last), operands."""

    kind: str
    modifiers: list[str]
    operands: list[str]

    def __str__(self) -> str:
        return ".".join([self.kind, *self.modifiers]) + " " + ", ".join(self.operands)


def split(text: str) -> list[str]:
    """Operands between commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "{[(") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def register(name: str) -> str:
    """A register's name in C++."""
    return "r_" + name.lstrip("%").replace(".", "_")


class Writer:
    """Operands of one instruction in C++."""

    def __init__(self, instruction: Instruction, entry: Any) -> None:
        self.kind, self.modifiers, self.operands = instruction
        self.entry = entry
        self.type = next((m for m in reversed(self.modifiers) if m in C_TYPE), "b32")
        self.c_type = C_TYPE[self.type]
        self.flushes = "ftz" in self.modifiers

    def has(self, *names: str) -> str:
        """Which of these modifiers the instruction has, or ''."""
        return next((m for m in self.modifiers if m in names), "")

    def value(self, text: str) -> str:
        """An operand: register, special register, number or the address of a variable."""
        if text.startswith("!"):
            return f"!{self.value(text[1:])}"
        if text.startswith("%"):
            special = _INDEX.get(text.partition(".")[0])
            return f"block::machine().{special}.{text[-1]}" if special else _LANES.get(text) or self._plain(text)
        if re.match(r"0[fFdD][0-9A-Fa-f]", text):
            return f"0x{text[2:]}{'u' if text[1] in 'fF' else 'ull'}"
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", text):
            return f"int64_t({text.rstrip('U')}{'ull' if text.startswith('0x') else 'll'})"
        name, _, offset = text.partition("+")
        address = self.entry.address_of(name)
        if address is None:
            raise NotImplementedError(f"operand {text!r} of {self.kind}")
        return f"({address} + {offset or 0})"

    def _plain(self, name: str) -> str:
        if name not in self.entry.registers:
            raise NotImplementedError(f"special register {name}")
        return register(name)

    def read(self, i: int, kind: str = "") -> str:
        """Operand i as the instruction's type, or another."""
        c_type = C_TYPE[kind] if kind else self.c_type
        text = f"as<{c_type}>({self.value(self.operands[i])})"
        return f"flush({text})" if self.flushes and c_type == "float" else text

    def unsigned(self, i: int) -> str:
        return f"as<uint32_t>({self.value(self.operands[i])})"

    def write(self, text: str, kind: str = "", i: int = 0) -> str:
        """A statement that sets destination i."""
        c_type = C_TYPE[kind] if kind else self.c_type
        if self.flushes and c_type == "float":
            text = f"flush({text})"
        if "sat" in self.modifiers and c_type in ("float", "double"):
            text = f"op_sat<{c_type}>({text})"
        return f"set<{c_type}>({register(self.operands[i])}, static_cast<{c_type}>({text}));"

    def address(self, text: str, size: int, loaded: int = 0, stored: int = 0) -> str:
        """The checked and counted host address of a memory operand of `size` bytes."""
        base, offset = re.fullmatch(r"\[\s*([^\]+]+?)\s*(?:\+\s*(-?\w+))?\s*\]", text).groups("0")
        space = next(
            (m.partition("::")[0] for m in self.modifiers if re.match("global|shared|local|param|const", m)), ""
        )
        if space == "param":
            return f"reinterpret_cast<uint64_t>(parameters) + {self.entry.parameters.offsets[base]} + {offset}"
        place = f"uint64_t({self.value(base)}) + {offset}ll"
        if space == "shared":
            return f"in_shared(uint32_t({place}), {size})"
        if space == "local":
            return f"aligned(reinterpret_cast<uint64_t>(local) + ({place}), {size})"
        if not space and base in self.entry.module.shared.offsets:
            raise NotImplementedError(f"generic access to a shared variable by its name: {text}")
        return f"in_global({place}, {size}, {loaded}, {stored}, local, sizeof local)"


# --- arithmetic and bits ---

_PLAIN = {name: f"op_{name}" for name in ("div", "rem", "abs", "neg", "copysign", "rcp", "rsqrt", "brev")}
_PLAIN |= {"add": "op_add", "sub": "op_sub", "sqrt": "std::sqrt", "ex2": "std::exp2", "lg2": "std::log2"}
_PLAIN |= {"sin": "std::sin", "cos": "std::cos", "tanh": "std::tanh", "fma": "std::fma"}
_COUNTS = {"popc": "op_popc", "clz": "op_clz", "bfind": "op_bfind"}
_LOGIC = {"and": "&", "or": "|", "xor": "^"}


def _plain(w: Writer) -> str:
    name = _PLAIN[w.kind]
    function = f"{name}<{w.c_type}>" if name.startswith("op_") else name
    return w.write(f"{function}({', '.join(w.read(i) for i in range(1, len(w.operands)))})")


def _extreme(w: Writer) -> str:
    name = f"op_nan_{w.kind}" if w.has("NaN") else f"op_{w.kind}"
    return w.write(f"{name}<{w.c_type}>({w.read(1)}, {w.read(2)})")


def _multiply(w: Writer) -> str:
    added = w.kind == "mad"
    if w.has("wide"):
        wide = f"{w.type[0]}{2 * int(w.type[1:])}"
        product = f"op_mul<{C_TYPE[wide]}>({w.read(1)}, {w.read(2)})"
        return w.write(f"op_add<{C_TYPE[wide]}>({product}, {w.read(3, wide)})" if added else product, wide)
    product = f"{'op_mul_hi' if w.has('hi') else 'op_mul'}<{w.c_type}>({w.read(1)}, {w.read(2)})"
    return w.write(f"op_add<{w.c_type}>({product}, {w.read(3)})" if added else product)


def _count(w: Writer) -> str:
    return w.write(f"{_COUNTS[w.kind]}<{w.c_type}>({w.read(1)})", "u32")


def _logic(w: Writer) -> str:
    return w.write(f"{w.read(1)} {_LOGIC[w.kind]} {w.read(2)}")


def _not(w: Writer) -> str:
    return w.write(f"{'!' if w.type == 'pred' else '~'}{w.read(1)}")


def _shift(w: Writer) -> str:
    return w.write(f"op_{w.kind}<{w.c_type}>({w.read(1)}, {w.unsigned(2)})")


def _field(w: Writer) -> str:
    if w.kind == "bfe" and w.type.startswith("s"):
        raise NotImplementedError("bfe of a signed type")
    at = len(w.operands) - 2
    return w.write(
        f"op_{w.kind}<{w.c_type}>({', '.join(w.read(i) for i in range(1, at))}, {w.unsigned(at)}, {w.unsigned(at + 1)})"
    )


def _permute(w: Writer) -> str:
    return w.write(f"op_{w.kind}({', '.join(w.unsigned(i) for i in range(1, len(w.operands)))})", "u32")


def _funnel(w: Writer) -> str:
    by = f"({w.unsigned(3)} & 31)" if w.has("wrap") else f"std::min({w.unsigned(3)}, 32u)"
    return w.write(f"op_shf_{w.has('l', 'r')}({w.unsigned(1)}, {w.unsigned(2)}, {by})", "u32")


def _half(w: Writer) -> str:
    """float16 arithmetic through float: exact before the one rounding."""
    values = [f"from_half({w.read(i)})" for i in range(1, len(w.operands))]
    texts = {"add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "neg": "-{0}", "abs": "std::fabs({0})"}
    texts |= {"min": "std::fmin({0}, {1})", "max": "std::fmax({0}, {1})"}
    if w.kind not in texts:
        raise NotImplementedError(f"{w.kind} in float16")
    return f"{register(w.operands[0])} = to_half({texts[w.kind].format(*values)});"


# --- comparison and choice ---


def _compare(w: Writer) -> str:
    a, b = (f"from_half({w.read(i)})" if w.type == "f16" else w.read(i) for i in (1, 2))
    how = w.modifiers[0]
    floats = w.type.startswith("f")
    if how in _ORDERED:
        text = f"{a} {_ORDERED[how]} {b}"
    elif how in _UNORDERED:
        text = f"!({a} {_UNORDERED[how]} {b})"
    else:
        text = {
            "ne": f"{a} < {b} || {a} > {b}" if floats else f"{a} != {b}",
            "equ": f"!({a} < {b} || {a} > {b})",
            "neu": f"{a} != {b}",
            "num": f"{a} == {a} && {b} == {b}",
            "nan": f"{a} != {a} || {b} != {b}",
        }[how]
    joined = w.has("and", "or", "xor")
    sign = {"and": "&&", "or": "||", "xor": "!="}.get(joined, "")
    other = f" {sign} {w.value(w.operands[3])}" if joined else ""
    results = w.operands[0].split("|")
    lines = [f"const bool c_ = {text}; const bool d_ = c_{other}; const bool e_ = !c_{other}; (void)e_;"]
    lines += [f"{register(name.strip())} = {value};" for name, value in zip(results, ("d_", "e_"), strict=False)]
    return " ".join(lines)


def _select(w: Writer) -> str:
    kind = f"b{8 * SIZE[w.type]}"
    return w.write(f"{w.value(w.operands[3])} ? {w.read(1, kind)} : {w.read(2, kind)}", kind)


def _test(w: Writer) -> str:
    tests = {"finite": "std::isfinite", "infinite": "std::isinf", "notanumber": "std::isnan"}
    tests |= {"number": "!std::isnan", "normal": "std::isnormal"}
    return f"{register(w.operands[0])} = {tests[w.modifiers[0]]}({w.read(1)});"


# --- moves and conversions ---


def _move(w: Writer) -> str:
    to, source = w.operands
    if to.startswith("{"):
        names = split(to[1:-1])
        bits = 8 * SIZE[w.type] // len(names)
        parts = [
            f"set<uint{bits}_t>({register(n)}, uint{bits}_t(t_ >> {bits * i}));"
            for i, n in enumerate(names)
            if n != "_"
        ]
        return f"const uint64_t t_ = {w.value(source)}; {' '.join(parts)}"
    if source.startswith("{"):
        names = split(source[1:-1])
        bits = 8 * SIZE[w.type] // len(names)
        parts = [f"uint64_t(as<uint{bits}_t>({w.value(n)})) << {bits * i}" for i, n in enumerate(names)]
        return f"set<uint64_t>({register(to)}, {' | '.join(parts)});"
    return f"set<uint64_t>({register(to)}, static_cast<uint64_t>({w.value(source)}));"


def _convert(w: Writer) -> str:
    to, source = [m for m in w.modifiers if m in C_TYPE][-2:]
    text = f"from_half({w.read(1, source)})" if source == "f16" else w.read(1, source)
    c_source = "float" if source == "f16" else C_TYPE[source]
    rounding = _ROUND.get(w.has(*_ROUND), "")
    if to == "f16":
        return f"{register(w.operands[0])} = to_half({rounding}(float({text})));"
    if source.startswith("f") and not to.startswith("f"):
        return w.write(f"to_integer<{C_TYPE[to]}, {c_source}>({rounding}({text}))", to)
    if w.has("sat") and not to.startswith("f"):
        return w.write(f"saturate<{C_TYPE[to]}>({text})", to)
    return w.write(f"{C_TYPE[to]}({rounding}({text}))", to)


def _address_space(w: Writer) -> str:
    bases = {"shared": "shared_base", "local": "reinterpret_cast<uint64_t>(local)"}
    bases |= {"param": "reinterpret_cast<uint64_t>(parameters)"}
    base = bases.get(w.has("global", "shared", "local", "const", "param"), "0")
    return w.write(f"as<uint64_t>({w.value(w.operands[1])}) {'-' if w.has('to') else '+'} {base}", "u64")


# --- memory ---


def _load_or_store(w: Writer) -> str:
    storing = w.kind == "st"
    count = int((w.has("v2", "v4") or "v1")[1:])
    each = SIZE[w.type]
    size = each * count
    memory, value = (w.operands[0], w.operands[1]) if storing else (w.operands[1], w.operands[0])
    values = split(value[1:-1]) if count > 1 else [value]
    moved = {"stored": size} if storing else {"loaded": size}
    lines = [f"const uint64_t a_ = {w.address(memory, size, **moved)};"]
    for i, name in enumerate(values):
        if storing:
            lines.append(f"store<{w.c_type}>(a_ + {i * each}, as<{w.c_type}>({w.value(name)}));")
        elif name != "_":
            lines.append(f"set<{w.c_type}>({register(name)}, load<{w.c_type}>(a_ + {i * each}));")
    return " ".join(lines)


def _atomic(w: Writer) -> str:
    """Atomic by itself: threads change places only where they wait."""
    first = 1 if w.kind == "atom" else 0
    size = SIZE[w.type]
    kind, given = w.c_type, w.read(first + 1)
    results = {
        **{name: f"op_{name}<{kind}>(o_, {given})" for name in ("add", "min", "max")},
        **{name: f"{kind}(o_ {sign} {given})" for name, sign in _LOGIC.items() if not w.type.startswith("f")},
        "exch": given,
        "inc": f"(o_ >= {given} ? {kind}(0) : {kind}(o_ + 1))",
        "dec": f"(o_ == 0 || o_ > {given} ? {given} : {kind}(o_ - 1))",
    }
    how = w.has("cas", *results)
    result = f"(o_ == {given} ? {w.read(first + 2)} : o_)" if how == "cas" else results[how]
    address = w.address(w.operands[first], size, loaded=size, stored=size)
    lines = f"const uint64_t a_ = {address}; const {kind} o_ = load<{kind}>(a_); store<{kind}>(a_, {result});"
    return lines + (w.write("o_") if w.kind == "atom" and w.operands[0] != "_" else "")


# --- control, barriers and warps ---


def _branch(w: Writer) -> str:
    return f"goto L_{w.operands[0].replace('$', '_')};"


def _barrier(w: Writer) -> str:
    if w.has("warp"):
        return f"block::warp_barrier({w.unsigned(0)});"
    if w.has("red"):
        votes = f"block::count_in_block({w.value(w.operands[-1])})"
        text = {"popc": "c_", "and": "c_ == block::machine().threads", "or": "c_ != 0"}[w.has("popc", "and", "or")]
        return f"const unsigned c_ = {votes}; {register(w.operands[0])} = {text};"
    if w.operands != ["0"]:
        raise NotImplementedError("a barrier of a part of the block")
    return "block::barrier();"


def _shuffle(w: Writer) -> str:
    names = w.operands[0].split("|")
    mode = w.has("up", "down", "bfly", "idx")
    values = ", ".join(w.unsigned(i) for i in range(1, 5))
    lines = f"bool p_; const uint32_t t_ = op_shfl({mode}, {values}, p_); {register(names[0])} = t_;"
    return lines + (f" {register(names[1])} = p_;" if len(names) > 1 else "")


def _vote(w: Writer) -> str:
    mask = w.unsigned(2)
    ballot = f"block::ballot({mask}, {w.value(w.operands[1])})"
    text = {"ballot": ballot, "any": f"{ballot} != 0", "all": f"{ballot} == {mask}"}[w.has("ballot", "any", "all")]
    return f"{register(w.operands[0])} = {text};"


def _reduce(w: Writer) -> str:
    how = w.has("add", "min", "max", "and", "or", "xor")
    kind = w.c_type
    text = f"a {_LOGIC[how]} b" if how in _LOGIC else f"op_{how}<{kind}>(a, b)"
    return w.write(f"op_redux<{kind}>({w.read(1)}, {w.unsigned(2)}, []({kind} a, {kind} b) {{ return {text}; }})")


_KINDS: dict[str, Callable[[Writer], str]] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys(("min", "max"), _extreme),
    **dict.fromkeys(("mul", "mad"), _multiply),
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(_LOGIC, _logic),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("bfe", "bfi"), _field),
    **dict.fromkeys(("prmt", "lop3"), _permute),
    **dict.fromkeys(("ld", "ldu", "st"), _load_or_store),
    **dict.fromkeys(("atom", "red"), _atomic),
    **dict.fromkeys(("bar", "barrier"), _barrier),
    **dict.fromkeys(("ret", "exit"), lambda w: "return;"),
    **dict.fromkeys(("membar", "fence", "prefetch", "prefetchu", "nanosleep"), lambda w: ""),
    "not": _not,
    "shf": _funnel,
    "setp": _compare,
    "selp": _select,
    "testp": _test,
    "mov": _move,
    "cvt": _convert,
    "cvta": _address_space,
    "bra": _branch,
    "trap": lambda w: 'block::stop("trap");',
    "shfl": _shuffle,
    "vote": _vote,
    "redux": _reduce,
}
_ON_HALVES = ("add", "sub", "mul", "neg", "abs", "min", "max", "fma", "div")


def translate_instruction(instruction: Instruction, entry: Any) -> str:
    """C++ for one instruction of a kernel (a `ptx.Entry`).

    Raises
    ------
    NotImplementedError
        For what is not covered.
    """
    w = Writer(instruction, entry)
    if w.type == "f16" and w.kind in _ON_HALVES:
        return _half(w)
    if w.kind not in _KINDS:
        raise NotImplementedError(str(instruction))
    return _KINDS[w.kind](w)
