"""What ``latchwork bench`` is made of: cases, peers in a process each, samples, reports. No public interface."""
