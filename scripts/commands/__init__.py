"""What each script does, once there is an environment."""
