"""`make messages`: write `docs/MESSAGES.md` anew."""

from __future__ import annotations

from messages.document import DOCUMENT, all_areas, document, section

if __name__ == "__main__":
    DOCUMENT.write_text(document({area.name: section(area, [e.run() for e in area.examples]) for area in all_areas()}))
