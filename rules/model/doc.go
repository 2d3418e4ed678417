// Package model reads small trained models and scores rows of features with them,
// in Go alone: what stands behind model("pump", temp, vib, load) in a rule.
//
//	file                                       read as        trained by
//	model.json                                 tree ensemble  XGBoost, booster gbtree or dart
//	model.txt                                  tree ensemble  LightGBM, gbdt, rf, dart or goss
//	net.safetensors                            dense net      PyTorch, scikit-learn, Keras …
//
// [Open] reads the file, checks all of it, and lays it out for evaluation. What it
// cannot evaluate exactly as the trainer does it refuses at load, by name: linear
// trees and linear boosters, trees with vectors in their leaves, layers that are not
// dense, objectives that it does not know. A [Model] that was loaded always
// evaluates, in bounded time, without allocating. Models that need a runtime of
// their own (TensorFlow Lite, ONNX) run in a process beside the agent: see
// rules/model/process. A [Set] holds the models of a configuration, of either kind,
// by the names that rules use.
//
// # Missing values
//
// NaN is a missing feature, and unknown to rules. Trees treat it as their trainer
// does: XGBoost follows the default branch of the split; LightGBM follows the
// default branch, or takes 0 where the training data had none missing; a missing
// category goes the way of categories that were never seen. A model that never saw
// a missing value in training answers nevertheless, so ask known(x) in the rule if
// such an answer is not wanted. A net has no missing values: with one NaN among the
// features it has no score. Infinities are compared as numbers.
//
// # Arithmetic
//
// XGBoost rounds features to float32 and compares and adds in float32, and so does
// this package: a reading that is a hair beside a threshold takes the same branch
// here and there. LightGBM computes in float64. Nets are held and computed in
// float32, whatever the file holds.
//
// # Nets
//
// A safetensors file holds tensors and a few words of text, but no structure, so it
// is agreed here: a layer is NAME.weight, of shape [out, in] as PyTorch keeps it,
// and NAME.bias, of shape [out], or no bias. Layers follow each other in the order
// of the metadata "layers", or else of the numbers in their names ("0", "2",
// "fc10"). The metadata "activations" names one per layer: linear, relu,
// leaky_relu, elu, tanh, sigmoid, softplus, and for the last layer softmax;
// "features" may name the features. The tensors input.mean and input.scale, if
// there, standardise features, (x-mean)/scale, before the first layer, and
// output.mean and output.scale undo it after the last.
//
// # What was compared with what
//
// Trees and nets were compared, row by row, with scores that the trainers
// themselves exported; testdata/make.py makes these vectors.
//
//   - XGBoost: trained, saved and scored by XGBoost 1.7.4: logistic (also raw and
//     hinge), squared and absolute error, Poisson, gamma, Tweedie, Cox, softmax and
//     softprob, with dart, forests, categories and missing values. The other
//     objectives that are read add up in the same way. Of later versions, which
//     write the same fields, none was at hand.
//   - LightGBM: no LightGBM was at hand. A published random forest of LightGBM 2
//     gives its published scores. Beyond that, models of scikit-learn 1.2.1's
//     HistGradientBoosting, which splits and treats missing values and categories in
//     the same way, were written in LightGBM's text by the script, and give
//     scikit-learn's scores. Zero as missing, cross_entropy, multiclassova and
//     regression with sqrt were only read out of LightGBM's documentation and
//     sources.
//   - Nets: trained and scored by scikit-learn 1.2.1. leaky_relu, elu and softplus
//     are held against their formulas, half precision against known values.
//
// Beside the vectors in the tree, 300 models of XGBoost and 150 of scikit-learn with
// random settings were compared: make.py --random makes them.
//
// # Limits
//
// A file of 16 MiB, [MaxFeatures] features, [MaxOutputs] outputs, and
// [Options.MaxBytes] in memory, 4 MiB unless told otherwise (16 bytes a node of a
// tree, 4 a weight); loading takes several times the size of the file for a moment.
// [Model.Steps] says what a score costs at worst.
//
// # Concurrency
//
// A Model is immutable and safe for concurrent use. Each function that
// [Model.Scorer] returns has memory of its own and is for one goroutine at a time.
package model
