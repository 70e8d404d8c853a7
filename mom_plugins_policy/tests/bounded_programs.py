"""Random programs that ask for controls, often within bounds: what terms are compared on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Choose = Callable[[int], int]
"""Gives a number from 0 up to, without, its argument."""

NUMBERS = ("0", "1", "2", "-1", "0.5", "1.5", "0.1", "1e3", "4096", "-0.25", "3", "10", "1e-9", "1e18", "9007199254740993", "7")
GUEST = ("balloon_cur", "balloon_max", "balloon_min", "cpu_usage", "balloon_cur", "balloon_max", "balloon_min", "stats_age")
HOST = ("mem_free", "mem_available", "ksm_general_profit", "load_1", "cpu_count")
NAMES = ("a", "b", "s")


class Writer:
    """Writes one program, drawing every choice from `choose`."""

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.guest = ""

    def pick(self, options: Sequence[str]) -> str:
        return options[self.choose(len(options))]

    def chance(self, percent: int) -> bool:
        return self.choose(100) < percent

    def program(self) -> str:
        forms = ["(defvar a 1) (defvar b 7.5) (defvar s 0)", f"(def f (x) {self.value(1)})"]
        forms.extend(self.loop(3) if self.chance(75) else self.step(2) for _ in range(1 + self.choose(3)))
        return "\n".join(forms)

    def loop(self, depth: int) -> str:
        outer, self.guest = self.guest, "h" if self.guest else "g"
        body = self.block(depth)
        form = f"(with Guests {self.guest} {body})"
        self.guest = outer
        return form

    def block(self, depth: int) -> str:
        return f"{{ {' '.join(self.step(depth) for _ in range(1 + self.choose(3)))} }}"

    def step(self, depth: int) -> str:
        what = self.choose(20)
        if self.guest and what < 10:
            return f'({self.guest}.Control "{self.pick(("balloon_target",) * 5 + ("share",))}" {self.within(depth)})'
        if self.guest and what < 12:
            return f'({self.guest}.SetVar "n" {self.value(depth)})'
        if what < 14:
            return f"(set {self.pick(NAMES)} {self.value(depth)})"
        if what < 16 and depth > 0:
            return f"(if {self.condition(depth)} {self.step(depth - 1)} {self.step(depth - 1)})"
        if what == 16:
            return f'(Host.Control "ksm_pages_to_scan" {self.value(depth)})'
        if what == 17:
            return f"(defvar {self.pick(('a', 'z'))} {self.value(depth)})"
        if what == 18 and depth > 1:
            return self.loop(depth - 1)
        return self.value(depth)

    def within(self, depth: int) -> str:
        """A value that is often within the guest's bounds."""
        g, what = self.guest, self.choose(10)
        any_value = self.value(depth)
        if what < 3:
            return f"(max {g}.balloon_min {any_value})"
        if what < 5:
            return f"(min {g}.balloon_max (max {g}.balloon_min {any_value}))"
        if what == 5:
            return f"(+ {g}.balloon_min (abs {any_value}))"
        if what == 6:
            return f"(* (max 1 {any_value}) {g}.balloon_min)"
        if what == 7:
            return f"(- {g}.balloon_cur (* (max 0 (min 1 {any_value})) (- {g}.balloon_cur {g}.balloon_min)))"
        if what == 8:
            return f"(if (> {any_value} {g}.balloon_min) {any_value} {g}.balloon_min)"
        return any_value

    def atom(self) -> str:
        what = self.choose(8)
        if what < 2:
            return self.pick(NUMBERS)
        if what < 4:
            return self.pick(NAMES)
        if what < 7 and self.guest:
            return f"{self.guest}.{self.pick(GUEST)}"
        return f"Host.{self.pick(HOST)}"

    def value(self, depth: int) -> str:  # noqa: PLR0911  # one for each form
        if depth <= 0:
            return self.atom()
        what, below = self.choose(40), depth - 1
        if what < 6:
            return self.atom()
        if what < 14:
            return f"({self.pick(('max', 'min'))} {self.value(below)} {self.value(below)})"
        if what < 24:
            return f"({self.pick('+-*/+-*')} {self.value(below)} {self.value(below)})"
        if what < 26:
            return f"(abs {self.value(below)})"
        if what < 31:
            return f"(if {self.condition(below)} {self.value(below)} {self.value(below)})"
        if what < 33 and self.guest:
            get = self.pick(('GetVar "n"', 'GetControl "balloon_target"'))
            return f"(let ((q ({self.guest}.{get}))) (if (valid q) q {self.value(below)}))"
        if what == 33 and self.guest:
            return f'({self.guest}.StatAvg "{self.pick(("balloon_cur", "cpu_usage"))}")'
        if what == 34:
            return f"(let ((a {self.value(below)})) {self.value(below)})"
        if what == 35:
            return f"({self.pick(('and', 'or'))} {self.value(below)} {self.value(below)})"
        if what == 36:
            return f"(f {self.value(below)})"
        if what == 37 and self.guest:
            return f'({self.guest}.Stat "balloon_cur" {self.value(below)})'
        if what == 38:
            return f"{{ (set {self.pick(NAMES)} {self.value(below)}) {self.value(below)} }}"
        return self.pick(('(Host.Prop "interval")', '"12"', "nil", '(Host.Prop "interval")', "1e300", "-3"))

    def condition(self, depth: int) -> str:
        what, below = self.choose(20), depth - 1
        if what < 5:
            return f"(valid {self.atom()} {self.atom()})"
        if what < 14 or depth <= 0:
            return f"({self.pick(('<', '<=', '>', '>='))} {self.value(below)} {self.value(below)})"
        if what < 16:
            return f"({self.pick(('and', 'or'))} {self.condition(below)} {self.condition(below)})"
        if what == 16:
            return f"(not {self.condition(below)})"
        if what == 17:
            return f"({self.pick(('==', '!='))} {self.value(below)} {self.pick((self.value(below), 'nil'))})"
        if what == 18:
            return f"(null {self.atom()})"
        return self.value(below)


def bounded_program(choose: Choose) -> str:
    """One random program."""
    return Writer(choose).program()
