"""Limits of policies, so that no text can exhaust the host. They are far above the needs of real policies."""

from typing import Final

TEXT: Final = 1 << 20
"""Characters of all policies together, including their names."""
TEXT_BYTES: Final = 4 * TEXT  # UTF-8 has up to four bytes per character
FORMS: Final = 50_000
"""Atoms and lists of all policies together."""
NAME: Final = 200
"""Characters of a name."""
NESTING: Final = 500
"""Depth of nested brackets. oVirt MOM fails at about 330."""
STEPS: Final = 1_000_000
"""Forms evaluated outside of loops over Guests."""
GUEST_STEPS: Final = 100_000
"""Forms evaluated for each guest in a loop over Guests."""
SECONDS: Final = 2.0
"""Duration of an evaluation by a command. The plugin allows 40 % of its deadline, by default the same."""
DEPTH: Final = 200
"""Depth of nested function calls. oVirt MOM fails at about 100."""
INTEGER_BITS: Final = 4096
"""Size of an integer."""
STRING: Final = 1 << 16
"""Characters of a string that a policy builds."""
LIST: Final = 100_000
"""Elements of a list that a policy builds, counting those of nested lists."""
NAMES: Final = 64
"""Different controls, and different notes, that policies use per entity."""
MEMORY: Final = 128 << 20
"""Bytes of all strings, lists and large integers that one evaluation builds, even if it drops them again."""
