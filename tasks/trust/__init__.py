"""Who signed an image, and whether the profile trusts them. No Prefect, no network."""
