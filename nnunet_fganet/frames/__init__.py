"""Frames as they come from outside: read, cleaned of their collimated border, written for nnU-Net.

Training frames (``dataset_conversion``) and new frames (``fganet prepare-frames``) share this
package, so that the network sees both alike.
"""
