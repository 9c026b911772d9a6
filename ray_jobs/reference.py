"""The configuration reference in Markdown, made from the classes: `> docs/configuration.md`."""

import argparse

from pinsage.cluster.reference import reference

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(reference(), end="")
