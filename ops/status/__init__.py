"""The state of the pipeline: queues, lags, rejections, delivery stream, replica."""
