"""What `podweave quantise` does: integers of language models, and of ONNX files."""

from __future__ import annotations

from ..reports.language import print_quantised
from ..reports.model_files import print_quantised_file
from .beside import refuse_for_others
from .finish import finish
from .options import (
    Accuracy,
    Calibrate,
    CalibrationMethod,
    CorrectBiases,
    CtcBlank,
    Equalise,
    Evaluate,
    HostOps,
    Int16Inputs,
    JsonFile,
    Model,
    ModelFile,
    MultiplierBits,
    PlotSqnr,
    Seed,
    Sizes,
)
from .progress import Progress
from .targets import make_folders


def quantise(
    model: Model,
    output: ModelFile,
    calibrate: Calibrate = None,
    evaluate: Evaluate = None,
    accuracy: Accuracy = True,
    multiplier_bits: MultiplierBits = 16,
    host_ops: HostOps = False,
    seed: Seed = 0,
    method: CalibrationMethod = "absmax",
    equalise: Equalise = False,
    correct_biases: CorrectBiases = False,
    int16_input: Int16Inputs = None,
    plot_sqnr: PlotSqnr = None,
    ctc_blank: CtcBlank = None,
    size: Sizes = None,
    json_file: JsonFile = None,
) -> None:
    """Turn a language model, or an ONNX file, into integers, and say how near they are to floating point."""
    from podweave.ir.frontends.onnx import is_model_file

    if is_model_file(model):
        from .model_files import FileOptions, quantise_network

        make_folders(json_file)
        options = FileOptions(
            method, equalise, correct_biases, accuracy, plot_sqnr, host_ops, multiplier_bits, int16_input or [], ctc_blank
        )
        finish(quantise_network(model, output, calibrate, evaluate, size, options), json_file, print_quantised_file)
        return
    only = {
        "--method": method != "absmax",
        "--equalise": equalise,
        "--correct-biases": correct_biases,
        "--int16-input": int16_input,
    }
    refuse_for_others(model, {**only, "--plot-sqnr": plot_sqnr, "--size": size, "--ctc-blank": ctc_blank is not None})
    from ..language.quantise import Recipe
    from .language_commands import quantise_model

    make_folders(output, json_file)
    recipe = Recipe(multiplier_bits=multiplier_bits)
    with Progress() as progress:
        report = quantise_model(model, output, calibrate, evaluate, accuracy, recipe, seed, progress)
    finish(report, json_file, print_quantised)
