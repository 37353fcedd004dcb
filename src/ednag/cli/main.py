"""The command line: one parser for all verbs, run directories, presets and resuming."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ednag.cli.data import data_import, data_list
from ednag.cli.messages import essence
from ednag.cli.output import comparison_table, first_process, report_table, say, summary_table
from ednag.cli.run_directory import (
    RUN_DIR,
    claim_directory,
    extend_config,
    last_checkpoint,
    new_run_dir,
    place_logger,
    release_directories,
    resumed_config,
    rooted,
    save_config,
    shared_run_dir,
)
from ednag.engine.trainer import Trainer
from ednag.generation.report import Report
from ednag.retraining.export import export
from ednag.samplers.presets import preset_path


class EDNAGCLI(LightningCLI):
    """Verbs of Lightning (``fit``, ``validate``, ``test``, ``predict``) and ``generate`` and ``retrain``.

    Every run has a directory of its own, the trainer's ``default_root_dir``; its ``config.yaml`` runs the same again.
    """

    trainer: Trainer
    subcommand: str

    def __init__(self, args: list[str] | None = None) -> None:
        super().__init__(
            trainer_class=Trainer,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Verbs, and the arguments that come from elsewhere on the command line."""
        verbs: dict[str, set[str]] = LightningCLI.subcommands()
        return {
            **verbs,
            "generate": {"model", "datamodule"},
            "retrain": {"model", "datamodule"},
            "compare": {"model", "datamodule"},
            "collect": {"model", "datamodule"},
        }

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser that raises what is wrong, for :func:`main` to say in one sentence."""
        return super().init_parser(**{"exit_on_error": False, **kwargs})

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """As Lightning's, but with a model and data only where the verb needs them."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({"trainer.devices": 1})  # "auto" would take every GPU, and one run can't be shared out
        parser.set_defaults({"trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "."}}})
        parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what all verbs share."""
        parser.add_argument("--run_dir", type=Path | None, default=None, help="New directory of this run.")
        parser.add_argument("--resume", type=Path | None, default=None, help="Directory of a killed run to continue.")

    def before_instantiate_classes(self) -> None:
        """Settle the run's directory and save the config in it."""
        config = self.config[self.subcommand]
        if config.get("model") is None and self.subcommand in LightningCLI.subcommands():
            raise ValueError(f"{self.subcommand} needs a model: --model CLASS or --config configs/fit/....yaml")
        rooted(config)
        text = self._parser(self.subcommand).dump(config, skip_unset=False, format="yaml")
        for part in ("model", "data"):
            if config.get(part) is None:
                config.pop(part, None)  # Lightning looks into it when another argument holds a module
        if config.get("dry_run"):
            config.trainer.logger = False
            return
        chosen = config.resume or config.run_dir or shared_run_dir() or new_run_dir(self.subcommand)
        folder = chosen.expanduser()
        os.environ[RUN_DIR] = str(folder)  # for the processes that Lightning starts, by running this command again
        if first_process():
            claim_directory(folder, resumed=config.resume is not None)
        if config.resume is not None:
            extend_config(folder, config.get("evaluations"))
        elif first_process():
            save_config(folder, text)
        if self.subcommand == "fit" and config.resume is not None and config.ckpt_path is None:
            config.ckpt_path = last_checkpoint(folder)
        config.trainer.default_root_dir = str(folder)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            place_logger(logger, folder)

    def generate(self, **arguments: Any) -> None:
        """Generate, and print what was found; with ``--dry_run``, what it would cost."""
        if not arguments["dry_run"]:
            self._log_config()
        found = self.trainer.generate(**arguments)
        if not isinstance(found, Report):
            say(found)
            return
        say(report_table(found))
        say(f"report: {Path(self.trainer.default_root_dir) / 'report.json'}")

    def retrain(self, **arguments: Any) -> None:
        """Retrain, and print what was reached."""
        self._log_config()
        summary = self.trainer.retrain(**arguments)
        say(summary_table(summary))
        if summary.verdict:
            say(summary.verdict)
        failed = [result for result in summary.results if result.status == "failed"]
        for result in failed:
            say(f"{result.architecture} failed: {result.reason}")
        say(f"report: {Path(self.trainer.default_root_dir) / 'summary.json'}")
        if len(failed) == len(summary.results):
            raise RuntimeError("no network was trained to the end")

    def compare(self, **arguments: Any) -> None:
        """Compare, and print the table."""
        rows = self.trainer.compare(**arguments)
        say(comparison_table(rows))
        say(f"report: {Path(self.trainer.default_root_dir) / 'comparison.html'}")

    def collect(self, **arguments: Any) -> None:
        """Collect, and say what there is."""
        counts = self.trainer.collect(**arguments)
        say("{rows} trainings on {tasks} tasks, {failed} failed, {training_seconds:.0f} s of training".format(**counts))
        say(f"rows: {Path(self.trainer.default_root_dir) / 'rows.npz'}")

    def _log_config(self) -> None:
        self._dump_config()
        for logger in self.trainer.loggers:
            logger.log_hyperparams(self.config_dump)


FLAGS = ("--dry_run", "--baselines")
"""Options that need no value."""


def expand(args: list[str]) -> list[str]:
    """Replace ``--preset NAME`` by its configuration, add a resumed run's in front, and let flags stand alone.

    Raises:
        ValueError: for an unknown preset, or a directory without a run.
    """
    out: list[str] = []
    presets: list[str] = []
    rest = iter(args)
    for word in rest:
        if word in FLAGS:
            out.append(f"{word}=true")
            continue
        name, equals, value = word.partition("=")
        if name not in ("--preset", "--resume"):
            out.append(word)
            continue
        value = value if equals else next(rest, "")
        if name == "--preset":
            presets += ["--config", str(preset_path(value))]
        else:
            out[1:1] = resumed_config(Path(value).expanduser(), args[0])
            out += ["--resume", value]
    last = max((place + 1 for place, word in enumerate(out) if word == "--config"), default=0)
    out[last + 1 : last + 1] = presets  # after the configurations, before what overrides them
    return out


PLAIN_VERBS: dict[str, Any] = {"data": {"list": data_list, "import": data_import}, "export": export}
"""Verbs that need no trainer."""


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        exit status: 0 if all went well, 2 after a user's mistake, 143 after SIGTERM.
    """
    args = sys.argv[1:] if args is None else args
    torch.set_float32_matmul_precision("high")
    silence_framework()
    try:
        if args[:1] and args[0] in PLAIN_VERBS:
            component: Callable[..., Any] | dict[str, Any] = PLAIN_VERBS[args[0]]
            result = auto_cli(component, args=args[1:], as_positional=True)
            for written in result or ():
                say(written)
        else:
            expanded = expand(args)
            sys.argv[1:] = expanded  # LightningCLI reads and warns about both
            EDNAGCLI(None)
    except SIGTERMException:
        return 128 + signal.SIGTERM
    except (
        argparse.ArgumentError,
        ValueError,
        OSError,
        RuntimeError,
        ImportError,
        MisconfigurationException,
    ) as error:
        if os.environ.get("EDNAG_DEBUG"):
            raise
        sys.stderr.write(f"ednag: error: {essence(str(error))}\n(EDNAG_DEBUG=1 shows where)\n")
        return 2
    finally:
        release_directories()
    return 0


def silence_framework() -> None:
    """Drop what Lightning says that no user of this program can act on."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(
            lambda record: not any(words in record.getMessage() for words in ("Tip:", "`weights_only` was not set"))
        )
    for pattern in (".*LeafSpec.*", ".*does not have many workers.*", ".*weights_only.*", ".*lr_scheduler.step.*"):
        warnings.filterwarnings("ignore", pattern)
