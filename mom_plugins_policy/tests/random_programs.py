"""Random programs of the language: mostly valid, sometimes wrong, always small."""

from collections.abc import Callable

Choose = Callable[[int], int]
"""Function that returns a number from 0 to below its argument."""

NAMES = ("a", "b", "c", "d")
FUNCTIONS = ("f", "g", "h")
RARE_NAMES = ("add", "if", "let", "Host", "Guests", "abs", "f", "and", "set", "debug", "min", "sqrt")
HOST_FIELDS = ("mem_free", "swap_total", "cpu_count", "late", "typo")
GUEST_FIELDS = ("balloon_cur", "balloon_max", "os", "io_tune", "typo", "balloon_cur", "balloon_max")
BINARY = ("+", "-", "*", "/", "<", ">", "<=", ">=", "==", "!=", "<<", ">>", "add", "mul", "lt", "eq")
VARIADIC = ("and", "or", "min", "max", "null", "valid", "not", "max", "min", "and", "sqrt")
LITERALS = ("0", "1", "2", "-3", "0.5", "1e3", "nil", '""', '"s"', "'mem_free'", '"balloon_cur"', "7", "100", '"12"', "1e308")


class Writer:
    """Writer of one program. `choose` makes every choice."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.guests: list[str] = []
        self.rare = choose(4) == 0
        self.sane = choose(4) != 0
        self.arities = {name: choose(3) for name in FUNCTIONS}

    def pick(self, options: tuple[str, ...]) -> str:
        return options[self.choose(len(options))]

    def name(self) -> str:
        if self.rare and self.choose(8) == 0:
            return self.pick(RARE_NAMES)
        return self.pick(NAMES)

    def program(self) -> str:
        return "\n".join([*self.prelude(), *(self.form(4) for _ in range(1 + self.choose(6)))])

    def prelude(self) -> list[str]:
        """Return definitions of all names and functions, for most programs. Otherwise, the first form would fail."""
        if not self.sane:
            return []
        values = ("0", "1", "2.5", "100", '"s"', "Host.mem_free", "nil", "(with Guests x x.balloon_max)")
        texts = [f"(defvar {name} {self.pick(values)})" for name in NAMES if self.choose(6)]
        for name in FUNCTIONS:
            if self.choose(6):
                parameters = " ".join(NAMES[: self.arities[name]])
                body = self.form(3)
                if self.arities[name] and self.choose(3) == 0:
                    body = f"(if (< a 1) {body} ({name} (- a 1){' b' * (self.arities[name] - 1)}))"
                texts.append(f"(def {name} ({parameters}) {body})")
        return texts

    def atom(self) -> str:
        what = self.choose(10)
        if self.sane and what == 9 and self.choose(4):
            what = 4
        if what < 4:
            return self.pick(LITERALS)
        if what < 7:
            return self.name()
        if what == 7:
            return "Host." + self.pick(HOST_FIELDS)
        if self.guests and what == 8:
            return self.guests[self.choose(len(self.guests))] + "." + self.pick(GUEST_FIELDS)
        return self.pick(("Host", "Guests", "abs", "a.b", "Host.Stat", "-", "()", "a.balloon_cur", "b.balloon_max"))

    def form(self, depth: int) -> str:
        if depth <= 0:
            return self.atom()
        writers: tuple[Callable[[int], str], ...] = (
            self.binary, self.binary, self.variadic, self.if_, self.if_, self.cond, self.let, self.block, self.defvar, self.defvar,
            self.set, self.set, self.with_guests, self.with_guests, self.with_list, self.function, self.call, self.call, self.method,
            self.method, self.method, self.abs, self.odd,
        )  # fmt: skip
        what = self.choose(len(writers) + 1)
        return self.atom() if what == len(writers) else writers[what](depth - 1)

    def binary(self, depth: int) -> str:
        return f"({self.pick(BINARY)} {self.form(depth)} {self.form(depth)})"

    def variadic(self, depth: int) -> str:
        return f"({self.pick(VARIADIC)} {' '.join(self.form(depth) for _ in range(1 + self.choose(3)))})"

    def if_(self, depth: int) -> str:
        return f"(if {self.form(depth)} {self.form(depth)} {self.form(depth)})"

    def cond(self, depth: int) -> str:
        clauses = [f"({self.form(depth)} {' '.join(self.form(depth) for _ in range(1 + self.choose(2)))})" for _ in range(self.choose(4))]
        if self.choose(3):
            clauses.append(f"(else {self.form(depth)})")
        if self.choose(12) == 0:
            clauses.append(self.pick(("(1)", "x", "()", "{1 2}")))
        return f"(cond {' '.join(clauses)})"

    def let(self, depth: int) -> str:
        pairs = " ".join(f"({self.name()} {self.form(depth - 1)})" for _ in range(1 + self.choose(2)))
        return f"(let ({pairs}) {' '.join(self.form(depth) for _ in range(1 + self.choose(2)))})"

    def block(self, depth: int) -> str:
        return "{" + " ".join(self.form(depth) for _ in range(1 + self.choose(3))) + "}"

    def defvar(self, depth: int) -> str:
        return f"(defvar {self.name()} {self.form(depth)})"

    def set(self, depth: int) -> str:
        return f"(set {self.name()} {self.form(depth)})"

    def with_guests(self, depth: int) -> str:
        name = self.name()
        items = "Guests" if self.choose(4) else self.name()
        self.guests.append(name)
        body = self.form(depth)
        self.guests.pop()
        return f"(with {items} {name} {body})"

    def with_list(self, depth: int) -> str:
        return f"{{ (defvar {self.name()} (with Guests x x.balloon_max)) (with {self.name()} {self.name()} {self.form(depth)}) }}"

    def function(self, depth: int) -> str:
        name = self.pick(FUNCTIONS)
        parameters = list(NAMES)
        start = self.choose(2)
        count = self.arities[name] if self.choose(6) else self.choose(3)
        return f"(def {name} ({' '.join(parameters[start : start + count])}) {self.form(depth)})"

    def call(self, depth: int) -> str:
        name = self.pick(FUNCTIONS)
        count = self.arities[name] if self.sane or self.choose(8) else self.choose(3)
        return f"({' '.join([name, *(self.form(depth) for _ in range(count))])})"

    def method(self, depth: int) -> str:
        entity = "Host" if not self.guests or self.choose(3) == 0 else self.guests[-1]
        if self.choose(8) == 0:
            entity = self.name()
        what = self.choose(9)
        if what == 0:
            default = f" {self.form(depth)}" if self.choose(2) else ""
            return f'({entity}.Prop "{self.pick(("name", "uuid", "interval", "flavor"))}"{default})'
        if what == 1:
            return f'({entity}.Stat "{self.pick(GUEST_FIELDS + HOST_FIELDS)}" {self.form(depth)})'
        if what == 2:
            return f'({entity}.StatAvg "{self.pick(GUEST_FIELDS + HOST_FIELDS)}")'
        if what in (3, 4):
            return f'({entity}.Control "{self.pick(("k", "balloon_target"))}" {self.form(depth)})'
        if what == 5:
            return f'({entity}.GetControl "{self.pick(("k", "balloon_target"))}")'
        if what == 6:
            return f'({entity}.SetVar "n" {self.form(depth)})'
        if what == 7:
            return f'({entity}.GetVar "n")'
        return f"({entity}.{self.pick(('Remember', 'Recall', 'Stat', 'Control'))} {self.form(depth)} {self.form(depth)})"

    def abs(self, depth: int) -> str:
        return f"({self.pick(('abs', 'debug', 'abs', 'eval'))} {self.form(depth)})"

    def odd(self, depth: int) -> str:
        if self.sane and self.choose(3):
            return self.name()
        return self.pick((
            "(+ 1)", "(f)", "(nope 1)", "(if 1 2)", "{}", "(5 1)", "(let (p 1) 2)", "(a 1)", "(a.b 1)", "(Host.mem_free 1)",
            "(Host.swap_total 1)",
        ))  # fmt: skip


def program(choose: Choose) -> str:
    """Return a random program."""
    return Writer(choose).program()
