"""What in a frame makes a trained network call pixels wire: Grad-CAM++ of any layer."""
