"""python-tuf's client, once: refresh.py FOLDER URL FIRST-ROOT. Says what it believes, or why not."""

import sys

from tuf.ngclient import Updater

folder, url, first = sys.argv[1:4]
try:
    with open(first, "rb") as file:
        updater = Updater(folder, url + "/metadata/", bootstrap=file.read())
    updater.refresh()
    trusted = updater._trusted_set
    print("root", trusted.root.version, "timestamp", trusted.timestamp.version)
except Exception as error:
    print(type(error).__name__)
    sys.exit(1)
