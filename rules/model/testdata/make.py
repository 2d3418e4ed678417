#!/usr/bin/python3
"""Makes the test vectors of rules/model: models as their trainers save them, and
the scores that the trainers themselves give for rows of features.

    apt-get install python3-xgboost python3-sklearn    (Debian 12: 1.7.4, 1.2.1)
    /usr/bin/python3 rules/model/testdata/make.py

What checks what:

  xgboost/      trained, saved and scored by XGBoost.
  lightgbm/     hist-*: trained and scored by scikit-learn's
                HistGradientBoosting*, which decides as LightGBM does; the text is
                written by lightgbm_text() below. iris-forest: trained and scored
                by LightGBM 2 itself; see iris_forest().
  safetensors/  trained and scored by scikit-learn's MLP*; the file is written by
                safetensors() below.

    /usr/bin/python3 rules/model/testdata/make.py --random 200 DIR

makes models of random settings and data in DIR instead, for
MODEL_VECTORS=DIR go test -run Trainers ./rules/model

NAME.rows.json holds {"rows": [[...]], "scores": [[one per output]]}; null is a
missing value.
"""
import json
import os
import struct
import sys

import numpy as np
import xgboost as xgb
from sklearn import datasets, ensemble, model_selection, neural_network

HERE = os.path.dirname(os.path.abspath(__file__))


def write(path, data):
    with open(os.path.join(HERE, path), "wb" if isinstance(data, bytes) else "w") as f:
        f.write(data)


def rows(path, X, scores):
    number = lambda v: None if np.isnan(v) else float(v)
    scores = np.asarray(scores, dtype=np.float64).reshape(len(X), -1)
    lines = ",\n".join(json.dumps([number(v) for v in row]) for row in X)
    out = ",\n".join(json.dumps([float(v) for v in row]) for row in scores)
    write(path + ".rows.json", '{"rows": [\n%s\n], "scores": [\n%s\n]}\n' % (lines, out))


def machine(n, seed, missing=0.0, classes=2):
    """A pump: temperature, vibration, load, speed; a label and a count."""
    r = np.random.RandomState(seed)
    load = r.rand(n)
    speed = 600 + 900 * load + 30 * r.randn(n)
    temp = 30 + 40 * load + 5 * r.randn(n)
    vib = 0.5 + load**2 + 0.3 * r.randn(n)
    X = np.column_stack([temp, vib, load, speed])
    wear = (temp - 50) / 20 + (vib - 1) + 0.3 * r.randn(n)
    label = np.digitize(wear, np.linspace(-0.5, 1.0, classes - 1)) if classes > 2 else (wear > 0.3).astype(int)
    X[r.rand(n, 4) < missing] = np.nan
    return X, label, wear


# --- XGBoost ---


def edges(booster, X):
    """Rows that lie on thresholds, and a hair beside them in float64."""
    table = [t for t in booster.get_dump(with_stats=False)]
    out = []
    for dump in table[:4]:
        for line in dump.splitlines():
            if "[f" not in line or "<" not in line:
                continue
            cond = line[line.index("[") + 1 : line.index("]")]
            name, limit = cond.split("<")
            limit = float(np.float32(limit))
            for v in (limit, limit * (1 + 1e-9), limit * (1 - 1e-9), limit * (1 + 3e-8), limit * (1 - 3e-8)):
                row = X[len(out) % len(X)].copy()
                row[int(name[1:])] = v
                out.append(row)
    return np.array(out[:25])


def xgboost_case(name, params, rounds, X, y, Z, types=None):
    d = xgb.DMatrix(X, label=y, feature_types=types, enable_categorical=types is not None)
    b = xgb.train({"seed": 1, "nthread": 1, "tree_method": "hist", **params}, d, rounds)
    path = os.path.join(HERE, "xgboost", name + ".json")
    b.save_model(path)
    if types is None:
        near = edges(b, Z)
        Z = np.vstack([Z, near]) if len(near) else Z
    s = b.predict(xgb.DMatrix(Z, feature_types=types, enable_categorical=types is not None))
    rows("xgboost/" + name, Z, s)


def xgboost_all():
    X, y, wear = machine(600, 1, missing=0.1)
    Z = machine(40, 2, missing=0.2)[0]
    Z[0] = np.nan
    case = lambda name, params, rounds, target: xgboost_case(name, params, rounds, X, target, Z)
    case("binary", {"objective": "binary:logistic", "max_depth": 4, "base_score": 0.3}, 12, y)
    case("exact", {"objective": "binary:logistic", "max_depth": 3, "tree_method": "exact"}, 5, y)
    case("regression", {"objective": "reg:squarederror", "max_depth": 4}, 10, wear)
    case("logitraw", {"objective": "binary:logitraw", "max_depth": 2, "base_score": 0.3}, 3, y)
    case("hinge", {"objective": "binary:hinge", "max_depth": 2}, 3, y)
    case("poisson", {"objective": "count:poisson", "max_depth": 3}, 5, np.maximum(0, np.round(3 + 2 * wear)))
    case("gamma", {"objective": "reg:gamma", "max_depth": 2, "base_score": 2}, 3, np.exp(wear / 2))
    case("tweedie", {"objective": "reg:tweedie", "max_depth": 2}, 3, np.exp(wear / 2))
    case("absolute", {"objective": "reg:absoluteerror", "max_depth": 2}, 3, wear)
    case("cox", {"objective": "survival:cox", "max_depth": 2}, 3, np.exp(wear))
    case("forest", {"objective": "binary:logistic", "max_depth": 3, "num_parallel_tree": 4, "subsample": 0.6, "colsample_bynode": 0.7}, 2, y)
    case("dart", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.4, "max_depth": 3}, 8, y)
    case("lossguide", {"objective": "binary:logistic", "grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0}, 3, y)
    Xc, yc, _ = machine(600, 3, missing=0.1, classes=3)
    Zc = machine(30, 4, missing=0.2)[0]
    xgboost_case("softprob", {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "base_score": 0.7}, 4, Xc, yc, Zc)
    xgboost_case("softmax", {"objective": "multi:softmax", "num_class": 3, "max_depth": 3}, 4, Xc, yc, Zc)
    categorical()
    # Nodes that were pruned stay in the file and nothing points to them.
    case("pruned", {"objective": "reg:squarederror", "max_depth": 5, "gamma": 4, "tree_method": "exact"}, 3, wear)


def categorical():
    r = np.random.RandomState(5)
    n = 800
    kind, temp = r.randint(0, 40, n).astype(float), 40 + 10 * r.randn(n)
    effect = r.randn(40)
    y = (effect[kind.astype(int)] + (temp - 40) / 10 + 0.3 * r.randn(n) > 0).astype(int)
    kind[r.rand(n) < 0.1] = np.nan
    X = np.column_stack([kind, temp])
    Z = np.array([[k, t] for k in list(range(0, 40, 3)) + [41, 63, 64, 200, np.nan] for t in (30.0, 45.0)])
    for name, limit in (("categories", 1), ("onehot", 64)):
        xgboost_case(name, {"objective": "binary:logistic", "max_depth": 4, "max_cat_to_onehot": limit}, 5, X, y, Z, ["c", "q"])


# --- LightGBM's text ---


def bits(words):
    return " ".join(str(int(w)) for w in words)


def lightgbm_tree(index, predictor, shift):
    """One tree of scikit-learn's histogram boosting in LightGBM's text."""
    nodes = predictor.nodes
    # LightGBM numbers inner nodes and leaves apart; a leaf is ~number.
    inner = {i: k for k, i in enumerate(i for i, n in enumerate(nodes) if not n["is_leaf"])}
    leaf = {i: k for k, i in enumerate(i for i, n in enumerate(nodes) if n["is_leaf"])}
    child = lambda i: inner[i] if i in inner else ~leaf[i]
    cats, boundaries, thresholds, decisions = [], [0], [], []
    for i in inner:
        n = nodes[i]
        if n["is_categorical"]:
            words = list(predictor.raw_left_cat_bitsets[n["bitset_idx"]])
            thresholds.append(str(len(boundaries) - 1))
            cats += words
            boundaries.append(len(cats))
            decisions.append(1 | 2 << 2)
        else:
            thresholds.append(repr(float(n["num_threshold"])))
            decisions.append((2 if n["missing_go_to_left"] else 0) | 2 << 2)
    lines = ["Tree=%d" % index, "num_leaves=%d" % len(leaf), "num_cat=%d" % (len(boundaries) - 1)]
    if inner:
        lines += [
            "split_feature=" + " ".join(str(int(nodes[i]["feature_idx"])) for i in inner),
            "split_gain=" + " ".join("%g" % nodes[i]["gain"] for i in inner),
            "threshold=" + " ".join(thresholds),
            "decision_type=" + " ".join(str(d) for d in decisions),
            "left_child=" + " ".join(str(child(int(nodes[i]["left"]))) for i in inner),
            "right_child=" + " ".join(str(child(int(nodes[i]["right"]))) for i in inner),
        ]
    lines.append("leaf_value=" + " ".join(repr(float(nodes[i]["value"] + shift)) for i in leaf))
    if len(boundaries) > 1:
        lines += ["cat_boundaries=" + bits(boundaries), "cat_threshold=" + bits(cats)]
    lines += ["is_linear=0", "shrinkage=1", "", ""]
    return "\n".join(lines) + "\n"


def lightgbm_text(model, objective, names):
    """A fitted HistGradientBoosting* as LightGBM saves its own models."""
    per_iteration = model.n_trees_per_iteration_
    trees = []
    for i, group in enumerate(model._predictors):
        for k, predictor in enumerate(group):
            shift = float(np.asarray(model._baseline_prediction).ravel()[k]) if i == 0 else 0.0
            trees.append(lightgbm_tree(len(trees), predictor, shift))
    head = [
        "tree",
        "version=v4",
        "num_class=%d" % per_iteration,
        "num_tree_per_iteration=%d" % per_iteration,
        "label_index=0",
        "max_feature_idx=%d" % (len(names) - 1),
        "objective=" + objective,
        "feature_names=" + " ".join(names),
        "feature_infos=" + " ".join("[0:1]" for _ in names),
        "tree_sizes=" + " ".join(str(len(t)) for t in trees),
        "",
        "",
    ]
    return "\n".join(head) + "".join(trees) + "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"


def hist_all():
    names = ["temp", "vib", "load", "speed"]
    X, y, wear = machine(600, 11, missing=0.1)
    Z = machine(40, 12, missing=0.2)[0]
    Z[0] = np.nan
    options = {"max_iter": 8, "random_state": 1, "early_stopping": False}
    m = ensemble.HistGradientBoostingClassifier(max_leaf_nodes=12, **options).fit(X, y)
    write("lightgbm/hist-binary.txt", lightgbm_text(m, "binary sigmoid:1", names))
    rows("lightgbm/hist-binary", Z, m.predict_proba(Z)[:, 1])
    m = ensemble.HistGradientBoostingRegressor(max_leaf_nodes=20, **options).fit(X, wear)
    write("lightgbm/hist-regression.txt", lightgbm_text(m, "regression", names))
    rows("lightgbm/hist-regression", Z, m.predict(Z))
    counts = np.maximum(0, np.round(3 + 2 * wear))
    m = ensemble.HistGradientBoostingRegressor(loss="poisson", max_leaf_nodes=6, **options).fit(X, counts)
    write("lightgbm/hist-poisson.txt", lightgbm_text(m, "poisson", names))
    rows("lightgbm/hist-poisson", Z, m.predict(Z))
    Xc, yc, _ = machine(600, 13, missing=0.1, classes=3)
    m = ensemble.HistGradientBoostingClassifier(max_leaf_nodes=6, **{**options, "max_iter": 4}).fit(Xc, yc)
    write("lightgbm/hist-classes.txt", lightgbm_text(m, "multiclass num_class:3", names))
    rows("lightgbm/hist-classes", Z, m.predict_proba(Z))

    r = np.random.RandomState(15)
    kind, temp = r.randint(0, 70, 900).astype(float), 40 + 10 * r.randn(900)
    effect = r.randn(70)
    label = (effect[kind.astype(int)] + (temp - 40) / 10 + 0.3 * r.randn(900) > 0).astype(int)
    kind[r.rand(900) < 0.1] = np.nan
    m = ensemble.HistGradientBoostingClassifier(max_leaf_nodes=10, categorical_features=[0], **options)
    m.fit(np.column_stack([kind, temp]), label)
    # Categories that were never seen are missing to scikit-learn and go right in
    # LightGBM, and so does a missing one: they are left out here.
    Zk = np.array([[k, t] for k in range(0, 70, 4) for t in (30.0, 45.0, np.nan)])
    write("lightgbm/hist-categories.txt", lightgbm_text(m, "binary sigmoid:1", ["kind", "temp"]))
    rows("lightgbm/hist-categories", Zk, m.predict_proba(Zk)[:, 1])


# Trees and scores of a random forest that LightGBM 2 trained on the iris flowers:
# testdata/lg_rf_iris* of github.com/dmitryikh/leaves (MIT, Copyright (c) 2018
# Dmitry Khominich). 24 of its 30 trees are one and the same stump; the others are
# (feature, threshold, second feature, its threshold, middle leaf).
IRIS_STUMP = (2, "2.3500000000000005")
IRIS_TREES = {
    3: (3, "0.45000000000000007", 0, "5.7500000000000009", "0.85814893509951207"),
    11: (3, "0.45000000000000007", 0, "5.8500000000000005", "0.85814893509951207"),
    14: (3, "0.45000000000000007", 0, "5.9500000000000011", "0.83466374295385415"),
    16: (3, "0.45000000000000007", 0, "5.8500000000000005", "0.85814893509951207"),
    23: (3, "0.45000000000000007", 3, "1.4500000000000002", "0.83201838513392434"),
}
IRIS_LOW, IRIS_HIGH = "0.11920292202211766", "0.88079707797788231"
IRIS_LOW_TOO = {3, 10, 23}  # these end in ...769
IRIS_SCORES = (
    "8.777494239518565111e-01 8.791711215497503007e-01 1.192029220221177133e-01 8.807970779778820924e-01 1.192029220221177133e-01 "
    "8.807970779778820924e-01 1.192029220221177133e-01 8.807970779778820924e-01 8.791711215497503007e-01 8.791711215497503007e-01 "
    "8.791711215497503007e-01 8.807970779778820924e-01 8.791711215497503007e-01 8.807970779778820924e-01 8.791711215497503007e-01 "
    "1.192029220221177133e-01 8.807970779778820924e-01 8.753685294277789852e-01 1.192029220221177133e-01 1.192029220221177133e-01 "
    "8.769944858559107770e-01 8.769944858559107770e-01 1.192029220221177133e-01 1.192029220221177133e-01 8.807970779778820924e-01 "
    "1.192029220221177133e-01 1.192029220221177133e-01 8.791711215497503007e-01 8.753685294277789852e-01 1.192029220221177133e-01"
)


def iris_forest():
    """LightGBM 2 kept probabilities in the leaves of a forest, so the objective,
    "binary sigmoid:1", is left out of the text: it would be applied twice."""
    text = (
        "tree\nversion=v2\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=3\naverage_output\n"
        "feature_names=Column_0 Column_1 Column_2 Column_3\n"
        "feature_infos=[4.2999999999999998:7.9000000000000004] [2:4.4000000000000004] [1.1000000000000001:6.9000000000000004] [0.10000000000000001:2.5]\n\n"
    )
    for i in range(30):
        low = IRIS_LOW[:-1] + "9" if i in IRIS_LOW_TOO else IRIS_LOW
        if i in IRIS_TREES:
            f, t, f2, t2, middle = IRIS_TREES[i]
            text += (
                "Tree=%d\nnum_leaves=3\nnum_cat=0\nsplit_feature=%d %d\nthreshold=%s %s\ndecision_type=2 2\n"
                "left_child=-1 -2\nright_child=1 -3\nleaf_value=%s %s %s\nshrinkage=1\n\n\n" % (i, f, f2, t, t2, low, middle, IRIS_HIGH)
            )
        else:
            f, t = IRIS_STUMP
            text += (
                "Tree=%d\nnum_leaves=2\nnum_cat=0\nsplit_feature=%d\nthreshold=%s\ndecision_type=2\n"
                "left_child=-1\nright_child=-2\nleaf_value=%s %s\nshrinkage=1\n\n\n" % (i, f, t, low, IRIS_HIGH)
            )
    write("lightgbm/iris-forest.txt", text + "end of trees\n")
    X, y = datasets.load_iris(return_X_y=True)
    _, Z, _, _ = model_selection.train_test_split(X, y, test_size=0.2, random_state=0)
    rows("lightgbm/iris-forest", Z, [float(s) for s in IRIS_SCORES.split()])


# --- safetensors ---


def safetensors(tensors, metadata):
    """The file format of huggingface/safetensors: length, JSON, bytes."""
    names = {np.dtype("float32"): "F32", np.dtype("float64"): "F64", np.dtype("float16"): "F16"}
    head, data = {"__metadata__": metadata}, b""
    for name, t in tensors.items():
        raw = np.ascontiguousarray(t).tobytes()
        head[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def net_text(model, scaler, dtype, names, last=None):
    """A fitted MLP* as a safetensors file that rules/model reads."""
    tensors = {}
    if scaler is not None:
        tensors["input.mean"] = np.asarray(scaler.mean_, dtype=dtype)
        tensors["input.scale"] = np.asarray(scaler.scale_, dtype=dtype)
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_)):
        tensors["%d.weight" % i] = np.asarray(w.T, dtype=dtype)
        tensors["%d.bias" % i] = np.asarray(b, dtype=dtype)
    hidden = {"identity": "linear", "logistic": "sigmoid"}.get(model.activation, model.activation)
    out = {"identity": "linear", "logistic": "sigmoid"}.get(model.out_activation_, model.out_activation_)
    acts = [hidden] * (len(model.coefs_) - 1) + [last or out]
    return safetensors(tensors, {"activations": " ".join(acts), "features": " ".join(names)})


def nets():
    from sklearn.preprocessing import StandardScaler

    names = ["temp", "vib", "load", "speed"]
    X, y, wear = machine(600, 21)
    Z = machine(30, 22)[0]
    s = StandardScaler().fit(X)
    kw = {"max_iter": 300, "random_state": 1}
    m = neural_network.MLPClassifier((8, 5), activation="relu", **kw).fit(s.transform(X), y)
    for dtype, tag in ((np.float32, ""), (np.float64, "-f64")):
        write("safetensors/binary%s.safetensors" % tag, net_text(m, s, dtype, names))
        rows("safetensors/binary" + tag, Z, m.predict_proba(s.transform(Z))[:, 1])
    m = neural_network.MLPRegressor((7,), activation="tanh", **kw).fit(s.transform(X), wear)
    write("safetensors/regression.safetensors", net_text(m, s, np.float32, names))
    rows("safetensors/regression", Z, m.predict(s.transform(Z)))
    Xc, yc, _ = machine(600, 23, classes=3)
    m = neural_network.MLPClassifier((6,), activation="logistic", **kw).fit(s.transform(Xc), yc)
    write("safetensors/classes.safetensors", net_text(m, s, np.float32, names))
    rows("safetensors/classes", Z, m.predict_proba(s.transform(Z)))
    # An autoencoder: the score is the mean squared error of what comes out.
    m = neural_network.MLPRegressor((6, 2, 6), activation="tanh", **kw).fit(s.transform(X), s.transform(X))
    write("safetensors/autoencoder.safetensors", net_text(m, s, np.float32, names))
    Zs = s.transform(Z)
    rows("safetensors/autoencoder", Z, np.mean((m.predict(Zs) - Zs) ** 2, axis=1))


def random_models(count):
    """Models of random settings over random data with many equal values, missing
    ones, and rows on and beside thresholds."""
    for i in range(count):
        r = np.random.RandomState(i)
        n, width = r.randint(20, 400), r.randint(1, 8)
        scale = 10.0 ** r.randint(-6, 7)
        draw = lambda n: np.round(r.randn(n, width) * r.choice([1, 3, 1000])) * scale if r.rand() < 0.5 else r.randn(n, width) * scale
        X, Z = draw(n), draw(20)
        for A in (X, Z):
            A[r.rand(*A.shape) < r.choice([0, 0.1, 0.5])] = np.nan
        y = np.nan_to_num(X[:, 0]) / scale + 0.5 * r.randn(n)
        classes = r.randint(3, 6)
        objective, label = [
            ("binary:logistic", (y > 0).astype(int)),
            ("reg:squarederror", y),
            ("count:poisson", np.maximum(0, np.round(y))),
            ("reg:gamma", np.exp(np.clip(y, -3, 3))),
            ("multi:softprob", r.randint(0, classes, n)),
            ("rank:pairwise", (y > 0).astype(int)),
        ][r.randint(6)]
        params = {
            "objective": objective,
            "max_depth": r.randint(1, 9),
            "booster": r.choice(["gbtree", "gbtree", "dart"]),
            "tree_method": r.choice(["hist", "exact", "approx"]),
            "min_child_weight": r.choice([0, 1, 5]),
            "gamma": r.choice([0, 0, 1]),
            "eta": r.choice([0.1, 0.3, 1]),
            "base_score": r.choice([0.2, 0.5, 0.9]),
            "subsample": r.choice([0.5, 1]),
            "num_parallel_tree": r.choice([1, 1, 3]),
            "seed": i,
        }
        if objective.startswith("multi"):
            params["num_class"] = classes
        if params["booster"] == "dart":
            params["rate_drop"] = 0.3
        xgboost_case("random-%03d" % i, params, r.randint(1, 12), X, label, Z)

        if i % 2:
            continue
        m = ensemble.HistGradientBoostingRegressor(
            max_iter=r.randint(1, 10), max_leaf_nodes=r.randint(2, 40), min_samples_leaf=1, early_stopping=False
        ).fit(X, y)
        write("lightgbm/random-%03d.txt" % i, lightgbm_text(m, "regression", ["f%d" % k for k in range(width)]))
        rows("lightgbm/random-%03d" % i, Z, m.predict(Z))


if __name__ == "__main__":
    np.set_printoptions(precision=17)
    if sys.argv[1:2] == ["--random"]:
        HERE = sys.argv[3]
        for folder in ("xgboost", "lightgbm"):
            os.makedirs(os.path.join(HERE, folder), exist_ok=True)
        random_models(int(sys.argv[2]))
        sys.exit()
    for make in (xgboost_all, hist_all, iris_forest, nets):
        make()
    print("xgboost", xgb.__version__, file=sys.stderr)
