"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podweave.ir.layers import CONV_FORM, GEMM_FORM, MAX_SIZE

WORKLOAD_HELP = (
    f"{GEMM_FORM}, {CONV_FORM}, a network (resnet50, digits), decoder layers (llama_2048_32_8_8192), encoders (bert_base), "
    f"an ONNX file, NETWORK/LAYER, or a CSV file (layer,M,K,N, or as SCALE-Sim has it). Sizes are at most {MAX_SIZE:,}."
)
Check = Annotated[
    str,
    typer.Option(
        help="result: results and cycles; rules: also hold the programs against the rules of the hardware, which is done anyway "
        "where it costs little."
    ),
]
Config = Annotated[str, typer.Option("--config", help="A preset, or a TOML file.")]
Workload = Annotated[str, typer.Argument(help=WORKLOAD_HELP)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the report as JSON; - for standard output.")]
Rows = Annotated[int | None, typer.Option(min=1, help="Language models: rows (tokens) that are computed; 1 by default.")]
Context = Annotated[
    int | None, typer.Option(min=1, help="Language models: keys that the last row sees, its own too; by default as many as rows.")
]
PerLayer = Annotated[bool, typer.Option("--per-layer", help="Each layer by itself, its inputs loaded from outside.")]
LayersAlone = Annotated[
    bool,
    typer.Option("--layers-alone", help="Each layer with weights by itself, without poolings and residuals."),
]
Partition = Annotated[
    int | None,
    typer.Option(min=0, help="Words a pod streams per weight tile (SOSA: the rows); 0: all that fit; chosen per layer by default."),
]
Through = Annotated[
    str | None,
    typer.Option(
        help="axi, all from memory by prefetch engines; backdoor, banks loaded in no time; port, through load ports. "
        "By default axi for whole networks."
    ),
]
Prefetch = Annotated[
    bool, typer.Option("--prefetch/--no-prefetch", help="axi: load words while earlier epochs run, or when their epoch is next.")
]
PrefetchRatio = Annotated[
    list[str] | None,
    typer.Option(
        "--prefetch-ratio",
        metavar="[PATTERN=]R",
        help="axi: of weights, keys and values with names like that (all of them, without PATTERN), so much from 0 to 1 may be "
        "loaded ahead of its epoch; the rest when that is next. May be given more than once: the last that fits counts.",
    ),
]
Cap = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="axi: words that a manager may have prefetched at a time; 0: no limit.")
]
Images = Annotated[
    int | None,
    typer.Option(
        "--images", min=1, help="axi: a stream of so many images in one run; networks with a batch take a batch at a time."
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="NAME=N", help="ONNX files: a size that the file leaves open; may be given more than once."),
]
HostOps = Annotated[
    bool, typer.Option("--host-ops", help="ONNX files: operators that are not taken, and all behind them, are left to the host.")
]
CalibrateFirst = Annotated[
    str | None,
    typer.Option(
        "--calibrate",
        metavar="FILE.npz",
        help="ONNX files in floating point: quantise them first, by ranges on these inputs, as `podweave quantise` does; "
        "'random': on normally distributed numbers, which say nothing of accuracy.",
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help="ONNX files: what it runs on, an array for each input, real numbers or integers as the file has them; of several "
        "batches, a stream in one run. Files of rows (.rows): inputs of the ONNX file, a run for each text. By default random.",
    ),
]
Compare = Annotated[bool, typer.Option("--compare", help="ONNX files on chips: hold every layer against onnxruntime, too.")]
FloatFile = Annotated[
    Path | None,
    typer.Option(
        "--float", metavar="FILE.onnx", help="ONNX files: how often the largest output is that of this file, of --inputs."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE.npz", help="ONNX files: which output should be the largest, an array of whole numbers."),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch", min=1, help="Of --images, so many at a time go through the network; by default as many as the workload names."
    ),
]
Memory = Annotated[str | None, typer.Option(help="axi: NAME=NUMBER,... of the memory model, as latency=200,beat_sixteenths=32.")]
Chips = Annotated[
    int | None,
    typer.Option(
        "--chips",
        min=2,
        max=16,
        help="Language models: so many chips in a ring share the workload; in RTL at most 8. The chip of --config has links.",
    ),
]
Links = Annotated[
    str | None,
    typer.Option(
        "--links",
        help="Several chips: NAME=NUMBER,... of latency, beat_sixteenths, jitter, seed of links; as latency=100,jitter=8.",
    ),
]
Skew = Annotated[
    str | None, typer.Option("--skew", metavar="C,C,...", help="Several chips: cycles by which each starts later; by default 0.")
]
Beneath = Annotated[
    bool,
    typer.Option("--beneath/--no-beneath", help="Several chips: prefetch in collectives too, or only otherwise."),
]
Divide = Annotated[
    str | None,
    typer.Option(
        "--divide",
        metavar="channels|rows",
        help="Several chips: channels, each has some heads and channels, and sums are added over all (the default); rows, each has "
        "some rows or sequences, and all weights.",
    ),
]
ScalesimReports = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Also write COMPUTE_REPORT.csv and the two others that SCALE-Sim writes.")
]
WavesOf = Annotated[
    list[str] | None,
    typer.Option("--waves-of", metavar="<block>", help="Chips: of this block only, as node_3; may be given more than once."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Chips: cores to simulate with; by default, all there are. Results do not depend on it.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the activity over time (.svg, .png or .pdf).")]
Model = Annotated[str, typer.Argument(help="smollm2, a GGUF file, a folder of Hugging Face, or an ONNX file.")]
ModelFile = Annotated[Path, typer.Option("-o", "--output", help="File for the model in integers.")]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="FILE",
        help="Texts by which ranges are chosen and weights rounded, with empty lines between them; by default what comes with "
        "podweave, and answers of the model itself. Of an ONNX file, which needs it: arrays for its inputs (.npz).",
    ),
]
Evaluate = Annotated[
    Path | None,
    typer.Option(
        "--evaluate",
        metavar="FILE",
        help="Texts on which integers are held against floating point; of an ONNX file arrays (.npz), by default those of "
        "--calibrate.",
    ),
]
Accuracy = Annotated[bool, typer.Option("--accuracy/--no-accuracy", help="Hold integers against floating point.")]
CalibrationMethod = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="absmax|percentile=P|mse",
        help="ONNX files: ranges of activations: all that was seen, so many percent of it, or those with the least error.",
    ),
]
Equalise = Annotated[
    bool, typer.Option("--equalise", help="ONNX files: move scales between convolutions before, exactly in floating point.")
]
CorrectBiases = Annotated[
    bool, typer.Option("--correct-biases", help="ONNX files: biases make up for what rounding of weights takes on average.")
]
CtcBlank = Annotated[
    int | None,
    typer.Option(
        "--ctc-blank",
        min=0,
        metavar="CLASS",
        help="ONNX files that read text: the class that is no character; accuracy says how many texts are those of floating point.",
    ),
]
Int16Inputs = Annotated[
    list[str] | None,
    typer.Option("--int16-input", metavar="NAME", help="ONNX files: a layer that reads 16 bits instead of 8; once for each."),
]
PlotSqnr = Annotated[
    Path | None, typer.Option("--plot-sqnr", help="ONNX files: draw signal over noise of each layer (.svg, .png or .pdf).")
]
MultiplierBits = Annotated[int, typer.Option(min=1, max=31, help="Significant bits of multipliers.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what the model says by itself.")]
