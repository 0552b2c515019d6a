"""Short definitions of every number that the report prints, so that they work offline.

The long form of each is the section of the same name in docs/metrics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from cspbench.figures.spec import Origin


@dataclass(frozen=True)
class Definition:
    """One number: its name, unit, where it comes from, what it is, and what it does not say.

    ``over`` is the origin of what it is divided by, where that is another one.
    """

    name: str
    unit: str
    origin: Origin
    text: str
    limits: str = ""
    over: Origin | None = None

    @property
    def origins(self) -> list[Origin]:
        """All that it is made of."""
        return [self.origin, self.over] if self.over else [self.origin]


DEFINITIONS: dict[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition(
            "latency_ms", "ms", "measured",
            "Median over launches of the launch medians. A launch is a fresh process that loads "
            "the model, warms up until latency is steady, and times single inferences.",
            "What is timed is the inference alone; copying the input is not.",
        ),
        Definition(
            "interval", "%", "measured",
            "95 % interval of latency_ms between launches: Student's t on the logs of the launch "
            "medians. It is printed as half its width, as a share of the estimate.",
            "It holds what varies from process to process on this machine on this day; it says "
            "nothing about other machines. With two launches it is very wide.",
        ),
        Definition(
            "ratio", "", "measured",
            "Time relative to the reference case, from bursts that both took in turn: undisturbed "
            "times, rounds or successive bursts, whichever agree best within its blocks, then "
            "the Hodges-Lehmann estimate over blocks, with half the width of its 95 % interval. "
            "Cases that share a letter cannot be told apart. The reference "
            "takes part twice: its own row is its ratio to itself (A/A).",
            "It compares cases of one run on this machine. Quote the ratio for a comparison, and "
            "the latency for what this machine gave.",
        ),
        Definition(
            "fps", "1/s", "measured",
            "1000 x batch / latency_ms. Its interval is the reciprocal of that of latency_ms.",
            "Inferences one after the other; not the throughput of a pipeline.",
        ),
        Definition(
            "p90_ms", "ms", "measured",
            "90th percentile of all samples of all launches, by linear interpolation.",
        ),
        Definition(
            "p99_ms", "ms", "measured",
            "99th percentile of all samples; given only from 300 samples on.",
        ),
        Definition(
            "spread", "%", "measured",
            "The median of each launch relative to latency_ms (dots) over the 95 % interval (bar), "
            "on the same scale of plus and minus 20 % in every row; what lies outside is drawn as "
            "an arrow at the edge.",
        ),
        Definition(
            "max_relative_error", "", "measured",
            "Largest absolute difference of the backend's outputs from the reference's (PyTorch's, "
            "or ONNX Runtime's without optimisation) on the same inputs, divided by the largest "
            "absolute output.",
            "Bounds: 1e-4 for fp32, 1e-2 for tf32 and fp16, 5e-2 for bf16, more where the "
            "reference differs from itself by as much; a case beyond its bound is failed.",
        ),
        Definition(
            "bflops", "1e9", "computed",
            "The CSPNet paper's convention: twice the multiply-accumulates of convolutions plus "
            "k x k x c x oh x ow of every max-pool, divided by 1e9.",
            "Not flops / 1e9, and not a speed.",
        ),
        Definition(
            "macs_g", "1e9", "computed",
            "Multiply-accumulates of convolutions, linear layers and matrix products.",
        ),
        Definition(
            "params_m", "1e6", "computed",
            "All parameters as PyTorch counts them.",
            "Darknet files and the paper's Table 3 count differently: params_file, params_conv.",
        ),
        Definition(
            "max_layer_bflops", "1e9", "computed",
            "BFLOPs of the largest single layer: the paper's computational bottleneck.",
        ),
        Definition(
            "cio_paper", "1e6", "computed",
            "Elements that convolutions, pools and softmax read and write, in millions: the "
            "convention of the paper's Fig. 8.",
        ),
        Definition(
            "copy_bytes", "bytes", "computed",
            "Bytes that concatenation and slicing only duplicate.",
        ),
        Definition(
            "traffic_bytes", "bytes", "computed",
            "Bytes read and written layer by layer, as if every layer went to memory.",
            "A model of memory traffic; caches and fusion make the real one smaller.",
        ),
        Definition(
            "traffic_bytes_fused", "bytes", "computed",
            "The same with convolution, norm and activation counted as one layer.",
        ),
        Definition(
            "predicted_ms", "ms", "predicted",
            "Sum over layers of the longer of arithmetic at the measured FP32 rate and fused "
            "traffic at the measured triad bandwidth, and of the overhead of one operator.",
            "Layers do not overlap in it and caches do not help; it is a yardstick.",
        ),
        Definition(
            "peak_live_bytes", "bytes", "computed",
            "Largest sum of live activations, the input included, weights not.",
            "What an ideal allocator would need in eager execution; not measured memory.",
        ),
        Definition(
            "peak_memory_bytes", "bytes", "measured",
            "Peak resident memory of the worker above its level before the model was loaded, in a "
            "launch of its own.",
            "Of the process: libraries that load lazily count as well.",
        ),
        Definition(
            "loaded_bytes", "bytes", "measured",
            "Resident once the model is loaded: weights and what the backend packed of them.",
        ),
        Definition(
            "retained_bytes", "bytes", "measured",
            "Resident after a run on top of that: workspace and activations that it keeps.",
        ),
        Definition(
            "transient_bytes", "bytes", "measured",
            "At the peak of the second run on top of both: activations that the backend frees "
            "again.",
        ),
        Definition(
            "layer_time_ms", "ms", "measured",
            "Time of an inference under the backend's own profiler, and of each of its entries: "
            "the mean of the faster three quarters.",
            "Profiling slows a model down: compare shares, not times.",
        ),
        Definition(
            "attributed_ms", "ms", "predicted",
            "The part of the measured latency that a cause accounts for: each measured layer time "
            "taken apart by its arithmetic, traffic and dispatch at the rates that both networks "
            "reach together. Parts add up to the measured latency; a negative one is faster than "
            "the average of both.",
            "It depends on the pair. docs/explain.md derives it.",
        ),
        Definition(
            "energy_per_inference_j", "J", "measured",
            "Energy between the ends of the sampling divided by its inferences, by the method "
            "named beside it; the median over launches.",
            "Of the whole device, idle power included.",
        ),
        Definition(
            "power_w", "W", "measured",
            "Mean power while sampling; idle power was read before.",
        ),
        Definition(
            "accuracy", "%", "published",
            "AP50 of detectors, top-1 of classifiers; see the two entries below.",
        ),
        Definition(
            "ap50", "%", "published",
            "Average precision at IoU 0.5 on MS COCO, as the source that the case's details name "
            "prints it. cspbench trains nothing and measures no accuracy.",
            "It belongs to the authors' trained weights; the networks timed here have seeded "
            "random ones, and the same shape.",
        ),
        Definition(
            "ap50_per_ms", "%/ms", "published",
            "Published AP50 divided by measured latency_ms.",
            "It favours small networks: the fastest of two with equal AP50 per millisecond is "
            "not the better one.",
            over="measured",
        ),
        Definition(
            "top1", "%", "published",
            "Top-1 accuracy on ImageNet as the source that the case's details name prints it.",
        ),
    )
}  # fmt: skip

#: Symbol of each origin: they differ in shape, not only in colour.
ORIGIN_SYMBOLS: dict[Origin, str] = {
    "measured": "●",
    "published": "◇",
    "computed": "■",
    "predicted": "△",
}
ORIGIN_TEXTS: dict[Origin, str] = {
    "measured": "timed or read on the machine described above",
    "published": "printed by the source named beside it, on its authors' machine",
    "computed": "exact, from the network's definition; no noise",
    "predicted": "estimated by a model from computed and measured numbers",
}
