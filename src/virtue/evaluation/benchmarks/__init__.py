"""Where tasks come from: SCaR, MMEB, generated scenes, region to image, and own data."""
