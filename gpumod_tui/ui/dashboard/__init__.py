"""The main screen and its layout."""
