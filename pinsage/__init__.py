"""PinSage on Ray: from Parquet files to a live recommender."""

__version__ = "0.1.0"
