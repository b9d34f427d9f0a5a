"""The commands of `virtue`, one module each; `virtue.cli` names them and loads a module only when its command runs."""
