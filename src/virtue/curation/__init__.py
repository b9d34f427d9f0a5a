"""Floor 3: builds SCaR sets out of annotations, a writer of captions, and people who look at what it wrote."""
