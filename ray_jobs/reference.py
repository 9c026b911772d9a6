"""The configuration reference in Markdown, made from the classes: `> docs/configuration.md`."""

from pinsage.cluster.reference import reference

if __name__ == "__main__":
    print(reference(), end="")
