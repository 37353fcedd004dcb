"""The verbs that run in a Trainer: Lightning's parser, a directory for each run, and what is printed of it."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ednag.cli.choices import kinds, offered, option_help
from ednag.cli.classes import own_defaults
from ednag.cli.help import trainer_help, verb_help
from ednag.cli.line import arrange
from ednag.cli.messages import MISTAKES, NO_ROOM, explain, in_own_code, say_mistake
from ednag.cli.output import comparison_table, first_process, report_table, say, summary_table
from ednag.cli.quiet import silence_framework
from ednag.cli.ranges import check_trainer
from ednag.cli.report import show_page
from ednag.cli.run_directory import (
    RUN_DIR,
    abandon_directory,
    claim_directory,
    extend_config,
    how_to_continue,
    new_run_dir,
    place_logger,
    refuse_infinite,
    release_directories,
    rooted,
    save_config,
    shared_run_dir,
)
from ednag.core.interruption import Stopped, stoppable
from ednag.data import ImageFolder
from ednag.engine.fit_report import FitReport
from ednag.engine.fitting import FitProgress
from ednag.engine.trainer import Trainer
from ednag.generation.report import Report
from ednag.pages.write import REPORT
from ednag.retraining.results import Summary
from ednag.samplers.presets import load_preset, preset_of, preset_path
from ednag.spaces import NASBench201, PretrainedLite, SearchSpace

SKIPPED: dict[str, set[str]] = {
    **LightningCLI.subcommands(),
    **{verb: {"model", "datamodule"} for verb in ("generate", "retrain", "compare", "collect")},
}
"""For each verb, the arguments of the Trainer's method that come from elsewhere on the command line."""


class PresetAction(argparse.Action):
    """``--preset NAME``: the sampler of a shipped configuration, in place of that of the configurations before."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Take the preset's sampler."""
        namespace.sampler = None
        ActionConfigFile.apply_config(parser, namespace, "config", str(preset_path(values)))


class EDNAGCLI(LightningCLI):
    """One verb of Lightning (``fit``, ``validate``, ``test``, ``predict``), or ``generate``, ``retrain``, ``compare``, ``collect``.

    Every run has a directory of its own, the trainer's ``default_root_dir``; its ``config.yaml`` runs the same again.

    Args:
        verb: the verb.
        words: its options, in order of precedence.
        claimed: where the directory of the run is noted once it is taken.
    """

    trainer: Trainer
    subcommand: str

    def __init__(self, verb: str, words: list[str], claimed: list[Path]) -> None:
        self.verb, self.claimed = verb, claimed
        super().__init__(
            trainer_class=Trainer,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=[verb, *words],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Name the verb: the parsers of the others are not needed."""
        return {self.verb: SKIPPED[self.verb]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser that raises what is wrong, for :func:`ednag.cli.main.main` to say in one sentence."""
        return super().init_parser(**{"prog": "ednag", "exit_on_error": False, "allow_abbrev": False, **kwargs})

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """As Lightning's, but with a model and data only where the verb needs them."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({"trainer.devices": 1})  # "auto" would take every GPU, and one run can't be shared out
        parser.set_defaults({"trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "."}}})
        parser.set_defaults({"trainer.enable_model_summary": False})
        parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what the verbs share."""
        if "sampler" in kinds(self.verb):
            told = "The sampler by name: default, paper or released-code."
            parser.add_argument("--preset", action=PresetAction, default=argparse.SUPPRESS, help=told)
        parser.add_argument("--run_dir", type=Path | None, default=None, help="New directory of this run.")
        parser.add_argument(
            "--open", type=bool, default=False, help="Show the report in a browser when the run has ended."
        )
        parser.add_argument("--resume", type=Path | None, default=None, help="Directory of a killed run to continue.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the line, or answer what it asks about itself.

        Raises:
            ValueError: if it can't be parsed, naming what is near where a name was misspelt.
        """
        own, prog = self._parser(self.verb), f"ednag {self.verb}"
        own.prog = prog
        if (answer := self._answer(own, prog, args[1:])) is not None:
            say(answer)
            sys.exit(0)
        try:
            with own_defaults():
                self.config: Namespace = parser.parse_args(args)
        except argparse.ArgumentError as error:
            choices = {name: offered(kind, self.verb) for name, kind in kinds(self.verb).items()}
            raise ValueError(explain(str(error), own, choices)) from error

    def _answer(self, parser: ArgumentParser, prog: str, words: list[str]) -> str | None:
        """Answer ``--help``, ``--trainer.help``, and ``--OPTION.help [CLASS]``; ``None`` if nothing is asked."""
        choices = {name: offered(kind, self.verb) for name, kind in kinds(self.verb).items()}
        for word, following in zip(words, [*words[1:], "-"], strict=False):
            if word in ("-h", "--help"):
                unused = ["model"] if self.verb not in LightningCLI.subcommands() else []
                return verb_help(parser, prog, list(choices), unused)
            if word == "--trainer.help":
                return trainer_help(parser, prog)
            option = word.removeprefix("--").removesuffix(".help")
            if word == f"--{option}.help" and option in choices:
                return option_help(option, choices[option], following)
        return None

    def before_instantiate_classes(self) -> None:
        """Settle the run's directory and save the config in it."""
        config = self.config[self.subcommand]
        if config.get("model") is None and self.subcommand in LightningCLI.subcommands():
            raise ValueError(
                f"{self.subcommand} needs a model: --model CLASS or --config fit/... (`ednag configs fit`)"
            )
        refuse_infinite(config)
        check_trainer(config.trainer)
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
            extend_config(folder, "evaluations", config.get("evaluations"))
        elif first_process():
            self.claimed.append(folder)
            save_config(folder, text, self.verb)
        config.trainer.default_root_dir = str(folder)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            place_logger(logger, folder)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Make the Trainer.

        Raises:
            ValueError: for options that don't fit together.
        """
        try:
            return super().instantiate_trainer(**kwargs)
        except TypeError as error:  # what Lightning raises for a wrong number of devices
            raise ValueError(f"trainer: {error}") from error

    def before_fit(self) -> None:
        """Let the fit be resumed, and resume it where it was killed."""
        config, given = self.config_init[self.subcommand], self.trainer._arguments
        if given.get("fast_dev_run") or given.get("enable_checkpointing") is False:
            return
        progress = FitProgress(Path(self.trainer.default_root_dir))
        progress.attach(self.trainer)
        if config.resume is not None and config.ckpt_path is None:
            last = progress.checkpoint(self.trainer)
            config.ckpt_path = None if last is None else str(last)
            extend_config(progress.folder, "max_epochs", self.trainer.max_epochs)

    def generate(self, **arguments: Any) -> None:
        """Generate, and print what was found; with ``--dry_run``, what it would cost."""
        arguments["sampler"] = sampler = arguments["sampler"] or load_preset("default")
        preset = preset_of(sampler)
        say(f"sampler: {type(sampler).__name__}" + (f" (the preset {preset})" if preset else ""))
        if not arguments["dry_run"]:
            self._log_config()
        found = self.trainer.generate(**arguments)
        if not isinstance(found, Report):
            say(found)
            return
        say(report_table(found))
        report = Path(self.trainer.default_root_dir) / "report.json"
        self._say_page(report.parent)
        if self.trainer.summary is not None:
            self._say_retrained(self.trainer.summary)
        elif arguments.get("datamodule") is not None:
            recipe = recipe_for(arguments["space"], arguments["datamodule"])
            which, rest = (f"--config {recipe} ", "") if recipe else ("", ", and a recipe of `ednag configs`")
            say(f"next: ednag retrain {which}--report {report} with the same --data{rest}")

    def retrain(self, **arguments: Any) -> None:
        """Retrain, and print what was reached."""
        self._log_config()
        self._say_retrained(self.trainer.retrain(**arguments))

    def compare(self, **arguments: Any) -> None:
        """Compare, and print the table."""
        rows = self.trainer.compare(**arguments)
        say(comparison_table(rows))
        self._say_page(Path(self.trainer.default_root_dir))

    def collect(self, **arguments: Any) -> None:
        """Collect, and say what there is."""
        counts = self.trainer.collect(**arguments)
        say("{rows} trainings on {tasks} tasks, {failed} failed, {training_seconds:.0f} s of training".format(**counts))
        say(f"rows: {Path(self.trainer.default_root_dir) / 'rows.npz'}")
        self._say_page(Path(self.trainer.default_root_dir))

    def fit(self, **arguments: Any) -> None:
        """Fit, and write the page."""
        self.trainer.callbacks.append(FitReport())
        self.trainer.fit(**arguments)
        if (Path(self.trainer.default_root_dir) / REPORT).exists():
            self._say_page(Path(self.trainer.default_root_dir))

    def _say_retrained(self, summary: Summary) -> None:
        """Print what networks reach, and what became of those that failed.

        Raises:
            RuntimeError: if all failed.
        """
        say(summary_table(summary))
        if summary.verdict:
            say(summary.verdict)
        failed = [result for result in summary.results if result.status == "failed"]
        for result in failed:
            say(f"{result.architecture} failed: {result.reason}")
        self._say_page(summary.run_dir)
        if len(failed) == len(summary.results):
            raise RuntimeError("no network was trained to the end")

    def _say_page(self, folder: Path) -> None:
        """Say where the report is, and with ``--open`` show it."""
        say(f"report: {folder / REPORT}")
        if self.config[self.subcommand].get("open") and first_process():
            show_page(folder)

    def _log_config(self) -> None:
        self._dump_config()
        for logger in self.trainer.loggers:
            logger.log_hyperparams(self.config_dump)


def recipe_for(space: SearchSpace, data: pl.LightningDataModule) -> str | None:
    """Name the shipped configuration that retrains what was found, where one suits any images of that kind."""
    if isinstance(space, PretrainedLite):
        return "retrain/photographs"
    return "retrain/imagefolder" if isinstance(data, ImageFolder) and isinstance(space, NASBench201) else None


def _extra_of(error: Exception) -> str | None:
    """Which of the optional loggers an error says is missing, whoever has wrapped it."""
    text = str(error).lower()
    missing = isinstance(error, ModuleNotFoundError) or "not met" in text
    return next((extra for extra in ("wandb", "tensorboard") if missing and extra in text), None)


def run(prog: str, words: list[str]) -> int:
    """Run a verb in a Trainer.

    Returns:
        exit status: 0, or 143 after SIGTERM, 130 after Ctrl-C, 129 after the terminal was closed.
    """
    torch.set_float32_matmul_precision("high")
    silence_framework()
    claimed: list[Path] = []
    verb = prog.rsplit(" ", 1)[-1]
    arranged = arrange(words, verb)
    if "sampler" not in kinds(verb) and any(word.startswith("--preset=") for word in arranged):
        raise ValueError(f"{verb} takes no --preset: it has no sampler to choose")
    try:
        with stoppable():
            return _status(verb, arranged, claimed)
    except Exception as error:
        for folder in claimed:
            abandon_directory(folder, verb)
        if isinstance(error, OSError) and error.errno in (*NO_ROOM, errno.EPIPE) and (more := how_to_continue(verb)):
            raise OSError(f"{say_mistake(error)}{more}") from error
        if isinstance(error, MisconfigurationException):
            raise ValueError(str(error)) from error
        if type(error).__module__.split(".")[0] == "wandb":
            raise ValueError(f"W&B: {error}; log in with `wandb login`, or set WANDB_MODE=offline") from error
        if extra := _extra_of(error):
            raise ModuleNotFoundError(
                f"{extra} is not installed; install it with: pip install 'ednag[{extra}]'"
            ) from error
        if not isinstance(error, MISTAKES) and (place := in_own_code(error)) is not None:
            raise RuntimeError(place) from error
        raise
    finally:
        release_directories()


def _status(verb: str, words: list[str], claimed: list[Path]) -> int:
    """Run a verb, and say how it goes on if a signal stopped it."""
    try:
        EDNAGCLI(verb, words, claimed)
    except (Stopped, SIGTERMException) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGTERM)
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"ednag: stopped by {stopped}{how_to_continue(verb)}\n")
            sys.stderr.flush()
        return stopped.status
    return 0
