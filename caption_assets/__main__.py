"""`python -m caption_assets` is the command `caption-assets`."""

from caption_assets.cli import main

if __name__ == "__main__":
    main()
