"""Every message of the tool, each with an example that produces it: what `docs/MESSAGES.md` is made from."""
