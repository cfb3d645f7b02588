"""What a training leaves on disk, and needs to go on."""
