"""A user's own images: a folder of class folders, a table of paths and labels, a zip of either, or an address of one.

- ``places.py`` says what ``dataset=`` leads to, and what lies in an archive.
- ``listing.py`` has what every kind of source comes to: files with their classes, and what is wrong with others.
- ``folders.py`` and ``tables.py`` list a folder and a table; they open no picture.
- ``archives.py`` unpacks a zip, ``fetch.py`` downloads one.
- ``decoding.py`` reads the pictures of a listing into one memory-mapped array, ``choosing.py`` says which of them.
- ``rows.py`` are some of the images of a large array, without a copy of them; ``arrays.py`` brings arrays that are
  there already, an .npz or a registered data set, to the wished size, colours and number.
- ``found.py`` is what was found on the way: files left out, and what a user should know.

``datasets.prepare`` puts them together, in its helper process.
"""
