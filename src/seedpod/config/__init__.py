"""What the user decides about a search, and every way to say it.

::

    wording        complaints: what, where, what to do next
    kinds, texts   kinds of value: text as people type it -> value -> text
    setting        Setting: one field's kind, help, group and what it awaits
    settings       OptimizationConfig: one field a setting; the source of everything else here
    command_line   key=value, and what people type instead
    yaml_file      config=FILE.yaml
    needed         what settings need that not every installation has
    layers         defaults < file < environment < command line
    render         help, config, the file in a run's folder, README's table

Imports neither yaml nor anything heavy until a file is read: ``help`` answers in a fraction of a second.
"""

from seedpod.config.layers import LoadedConfig, load
from seedpod.config.render import help_on, help_text, markdown_table, origins_text, to_yaml
from seedpod.config.setting import Setting
from seedpod.config.settings import OptimizationConfig, settings

__all__ = [
    "LoadedConfig",
    "OptimizationConfig",
    "Setting",
    "help_on",
    "help_text",
    "load",
    "markdown_table",
    "origins_text",
    "settings",
    "to_yaml",
]
