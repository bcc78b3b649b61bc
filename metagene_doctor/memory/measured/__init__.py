"""What a real card says: probes, measurements, calibration."""
