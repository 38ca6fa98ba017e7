"""Commands between runs and other programs' checkpoints: import, export, verify; and lists: configs, architectures."""

import dataclasses
import sys

from t5like.commands import Command, NoOptions, hints
from t5like.config import Config, presets
from t5like.convert.options import ExportOptions, ImportOptions, VerifyOptions
from t5like.errors import UserError, did_you_mean
from t5like.storage import local_copy, path_of, size_of


def import_(paths: list[str], options: ImportOptions) -> None:
    if len(paths) != 2:
        raise UserError("t5like import takes two paths: the folder to import and the run directory to make of it.")
    from t5like.convert.importing import import_run

    source, target = map(path_of, paths)
    found = import_run(source, target, options)
    for name, reason in found.unused.items():
        print(f"Unused: {name} ({reason}).")
    for line in found.notes:
        print(line)
    if found.non_finite:
        print(f"t5like: NaN or infinite values in {', '.join(found.non_finite)}.", file=sys.stderr)
    from t5like.model.architectures import parameter_count

    print(f"{target}: {found.origin}, {parameter_count(found.model):,} parameters, {found.vocabulary.size:,} pieces.")
    if found.kind:
        print(f"  t5like verify {target} {source}")
    if found.model.predicts_pieces:
        example = hints.imported(found.model.family, found.vocabulary)
        print(f"  t5like {example.replace('{run}', str(target))}")


def export(config: Config, options: ExportOptions, folder: str) -> None:
    from t5like.convert.exporting import export_run
    from t5like.convert.peft import export_adapter
    from t5like.runs.opened import open_run

    target = path_of(folder)
    with open_run(config, options.step) as restored:
        name = (export_adapter if options.adapter else export_run)(restored, target, options)
        size = sum(map(size_of, target.iterdir()))
        why = f" ({restored.why})" if restored.why else ""
        print(f"{target}: step {restored.step:,}{why} of {restored.run.path} as {name}, {size / 1e6:,.1f} MB.")


def verify(config: Config, options: VerifyOptions, folder: str) -> None:
    from t5like.convert.verify import as_json, as_table, verify
    from t5like.runs.opened import open_run

    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"))
    with open_run(config, options.step) as restored, local_copy(path_of(folder)) as theirs:
        lines = list(verify(restored, theirs, options))
    print(as_json(lines) if options.json else as_table(lines), end="")
    if any(line.passed is False for line in lines):
        sys.exit(1)


def configs(names: list[str], options: NoOptions) -> None:
    """Print a line for each preset of the package; with names, the files themselves, to start others from."""
    there = presets.packaged()
    for name in names:
        if name not in there:
            raise UserError(f"There is no preset {name!r} in the package{did_you_mean(name, there)}")
        print(there[name].read_text("utf-8"), end="")
    for name, file in there.items() if not names else ():
        print(f"{name:<22} {presets.title(file)}")


def architectures(names: list[str], options: NoOptions) -> None:
    from t5like.model.architectures import ARCHITECTURES, parameter_count

    for begin in names:
        if not any(name.startswith(begin) for name in ARCHITECTURES):
            raise UserError(f"No architecture begins with {begin!r}{did_you_mean(begin, ARCHITECTURES)}")
    for name, model in ARCHITECTURES.items():
        if not name.startswith(tuple(names) or ""):
            continue
        layers = "+".join(str(count) for count in (model.encoder_layers, model.decoder_layers) if count)
        heads = f"{model.heads}/{model.key_heads}" if model.key_heads != model.heads else str(model.heads)
        print(
            f"{name:<22} {parameter_count(model):>15,}  {model.family:<15} layers {layers:<6} embed {model.embed:<5} "
            f"heads {heads:<6} kv {model.kv:<4} mlp {model.mlp:<6} vocab {model.vocab:,}"
        )


COMMANDS = (
    Command(
        "import",
        "two paths",
        "make a run directory from a Hugging Face folder or a T5X checkpoint",
        import_,
        ImportOptions,
    ),
    Command("export", "run and folder", "write a Hugging Face folder from a run", export, ExportOptions),
    Command(
        "verify",
        "run and folder",
        "check that a run and a Hugging Face folder are one model",
        verify,
        VerifyOptions,
    ),
    Command("configs", "names", "list the presets of the package, or print those that are named", configs),
    Command("architectures", "names", "list the published sizes, with their parameters", architectures),
)
