"""VSML: a declarative framework for learning algorithms that are themselves learned."""

__version__ = "0.1.0"
