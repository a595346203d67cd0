"""Every value that a table or matrix of pairs can show, with its unit and its definition."""

from __future__ import annotations

# name: (title, unit, definition), for every value that a matrix can show
VALUES = {
    "barrier_entezari": (
        "Entezari barrier",
        "nats",
        "max over t of L(t) - ((1 - t) L(0) + t L(1)), L: mean cross-entropy",
    ),
    "barrier_ainsworth": ("Ainsworth barrier", "nats", "max over t of L(t) - (L(0) + L(1)) / 2, L: mean cross-entropy"),
    "barrier_frankle": (
        "Frankle barrier",
        "error rate",
        "max over t of E(t) - (E(0) + E(1)) / 2, E: 1 - accuracy (of text models: of label likelihood)",
    ),
    "t_peak": ("t of the peak", "t", "the t at which the Entezari barrier is attained, from a (0) to b (1)"),
    "distance_l2": ("L2 distance", "parameters", "Euclidean distance of the path's two ends"),
    "cosine": ("cosine", "cosine", "cosine of the path's two ends as vectors"),
    "saddle": ("saddle", "nats", "max over t of L(t), L: mean cross-entropy (Draxler et al. 2018)"),
    "convexity_gap": (
        "convexity gap",
        "nats",
        "the largest Entezari barrier over all parts of the path (Juneja et al. 2023)",
    ),
    "loss_integral": (
        "loss along the path",
        "nats",
        "integral of L over the path's arc length, divided by its length (Garipov et al. 2018)",
    ),
    "loss_mean": (
        "mean loss over t",
        "nats",
        "E of L(phi(t)), t uniform in [0, 1] (Garipov et al. 2018), trapezoid",
    ),
    "better": ("points better than both ends", "points", "points between the ends with L(t) < min(L(0), L(1))"),
    "agreement_ends": ("agreement of the ends", "rows", "share of rows for which both ends give the same label"),
    "jensen_shannon_ends": (
        "divergence of the ends",
        "nats",
        "mean Jensen-Shannon divergence of the label probabilities that both ends give",
    ),
    "p_value": (
        "p of no barrier",
        "probability",
        "of L being nowhere above the chord between the ends; bootstrap over evaluation rows, sup over t",
    ),
    "p_holm": (
        "adjusted p of no barrier",
        "probability",
        "p_value, adjusted over the pairs of a curve and row set (Holm); pairs below the floor apart",
    ),
    "length": ("length of the path", "parameters", "arc length from the one end to the other"),
    "refined_barrier": (
        "Entezari barrier between points",
        "nats",
        "of the parabola through the point of the Entezari barrier and its two neighbours",
    ),
    "t_refined": ("t of the peak between points", "t", "the t at which that parabola is highest, from a (0) to b (1)"),
    "bound": (
        "bound of the loss",
        "nats",
        "how far L may be from an exhaustive profile's at any point (adaptive points); 0: all points were evaluated",
    ),
    "passes": ("passes", "passes", "over the row set that the profile took, parts of one counted by their rows"),
}
PLACES = ("t_peak", "t_refined")  # on the path, seen from a: from b it is 1 less that
NEARER = ("cosine", "better", "agreement_ends", "p_value", "p_holm")  # of which more is no greater distance
INTERVALS = ("barrier_entezari", "barrier_ainsworth", "barrier_frankle", "convexity_gap")  # NAME_low, NAME_high: 95 %
