"""What ``latchwork bench`` is made of: cases, peers each in a process, samples, reports. No public interface."""
