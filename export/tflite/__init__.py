"""TFLite: flatbuffers, channels last."""
