"""What reaches out: live segments, exports."""
