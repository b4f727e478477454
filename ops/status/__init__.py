"""How the pipeline is doing: queues, lags, rejections, delivery stream, replica."""
